"""A rollout's plots: how the traffic moved, and how the evidence closed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup

from upkeep.report import words
from upkeep.report.plots import INK, MUTED, NEW, OLD, canvas, legend_above, percent_axis, to_svg
from upkeep.report.rollout_view import Look, Move, RolloutView

PASS, FAIL, PERSON = "#00664b", "#a33b00", "#5a4a8a"
MOST = 1e6
"""E-values are drawn up to here; beyond, more is not to be seen."""


def timeline(view: RolloutView) -> Markup | None:
    """The canary's share over time, a mark for each commit; None without a commit."""
    if not view.moves:
        return None
    start = _time(view.moves[0].at)
    last = [*(look.at for look in view.looks[-1:]), view.moves[-1].at, view.ended or view.moves[0].at]
    end = max(map(_time, last))
    unit, name = _unit((end - start).total_seconds())
    end_at = max((end - start).total_seconds() / unit, 1e-9)
    xs = [(_time(move.at) - start).total_seconds() / unit for move in view.moves]
    ys = [move.weight for move in view.moves]
    with canvas(560, 220, bottom=36, top=24) as (figure, axes):
        for step in view.steps:
            axes.axhline(step, color="#c8ced6", linewidth=0.7, linestyle=(0, (2, 3)))
        axes.fill_between([*xs, end_at], [*ys, ys[-1]], step="post", color=NEW, alpha=0.12, linewidth=0)
        axes.step([*xs, end_at], [*ys, ys[-1]], where="post", color=NEW, linewidth=2)
        for kind, colour, marker, label in (
            ("pass", PASS, "o", "evidence: pass"),
            ("fail", FAIL, "X", "evidence: fail"),
            ("person", PERSON, "D", "a person"),
            ("", MUTED, "s", "other commits"),
        ):
            chosen = [index for index, move in enumerate(view.moves) if _kind(move) == kind]
            if chosen:
                axes.scatter(
                    [xs[index] for index in chosen],
                    [ys[index] for index in chosen],
                    marker=marker,
                    s=44,
                    color=colour,
                    edgecolor="white",
                    linewidth=0.9,
                    zorder=4,
                    label=label,
                )
        axes.set_ylim(-6, 108)
        axes.set_xlim(-0.02 * end_at, 1.02 * end_at)
        ticks = sorted({0, *view.steps, 100})
        axes.set_yticks([tick for tick in ticks if tick == 0 or tick >= 10 or len(ticks) < 5])
        axes.set_ylabel("canary’s share, %")
        axes.set_xlabel(f"{name} since {words.moment(view.moves[0].at)}")
        legend_above(axes, 4)
        told = "; ".join(f"{words.moment(move.at)}: {move.weight} %, {move.title}" for move in view.moves)
        return to_svg(figure, f"Traffic of {view.canary}", f"The canary’s share of the traffic over time. {told}.")


def _kind(move: Move) -> str:
    if move.person:
        return "person"
    return move.verdict if move.verdict in ("pass", "fail") else ""


def evidence(looks: Sequence[Look], metric: str) -> Markup | None:
    """The confidence sequence of one metric's difference closing in, and its margin; None without a number."""
    known = [look for look in looks if look.metric == metric and look.lower is not None and look.upper is not None]
    if not known:
        return None
    xs, unit = _times(known)
    low = [_number(look.lower) for look in known]
    high = [_number(look.upper) for look in known]
    with canvas(bottom=36, top=24) as (figure, axes):
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.fill_between(xs, low, high, step="post", color=NEW, alpha=0.15, linewidth=0, label="not ruled out")
        axes.step(xs, low, where="post", color=NEW, linewidth=1)
        axes.step(xs, high, where="post", color=NEW, linewidth=1)
        points = [(x, look.difference) for x, look in zip(xs, known, strict=True) if look.difference is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], color=OLD, linewidth=1.2, label="observed")
        margins = [math.nan if look.margin is None else look.margin for look in known]
        if not all(map(math.isnan, margins)):
            axes.step(xs, margins, where="post", color=FAIL, linewidth=1.1, linestyle=(0, (4, 2)), label="margin")
        _limits(axes, low, high, [y for _, y in points], [value for value in margins if not math.isnan(value)])
        percent_axis(axes.yaxis)
        axes.set_xlabel(unit)
        axes.set_ylabel("canary minus champion")
        legend_above(axes, 3)
        last = known[-1]
        return to_svg(
            figure,
            f"{words.metric_name(metric)}: the difference",
            f"Canary minus champion, what is not ruled out closing in over time. At last between "
            f"{words.percent(last.lower)} and {words.percent(last.upper)}, observed {words.percent(last.difference)}, "
            f"margin {words.percent(last.margin)}.",
        )


def _limits(axes: Any, low: Sequence[float], high: Sequence[float], *others: Sequence[float]) -> None:
    """The first looks know nothing: the axis is that of the later half, with room for what must be seen."""
    half = len(low) // 2
    seen = [*low[half:], *high[half:], 0.0, *(value for values in others for value in values[len(values) // 2 :])]
    bottom, top = max(-1.0, min(seen)), min(1.0, max(seen))
    room = max(top - bottom, 1e-4) * 0.12
    axes.set_ylim(bottom - room, top + room)


def e_values(looks: Sequence[Look], metric: str, fail_at: float | None, pass_at: float | None) -> Markup | None:
    """Both e-values of one metric on a logarithmic axis, with the values that decide; None without a number."""
    from matplotlib.ticker import FuncFormatter

    known = [look for look in looks if look.metric == metric and (look.e_fail is not None or look.e_pass is not None)]
    if not known:
        return None
    xs, unit = _times(known)
    with canvas(bottom=36, top=24) as (figure, axes):
        for name, colour, style, limit, values in (
            ("worse", FAIL, "-", fail_at, [look.e_fail for look in known]),
            ("not worse", PASS, (0, (5, 1.5)), pass_at, [look.e_pass for look in known]),
        ):
            shown = [min(max(value, 1e-3), MOST) if value is not None else math.nan for value in values]
            axes.step(xs, shown, where="post", color=colour, linewidth=1.7, linestyle=style, label=name)
            if limit is not None:
                axes.axhline(limit, color=colour, linewidth=0.8, linestyle=":")
                axes.text(xs[-1], limit * 1.12, f"{name}: {limit:g}", ha="right", va="bottom", color=colour, fontsize=8)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))
        axes.minorticks_off()
        decide = max(fail_at or 100.0, pass_at or 20.0)
        axes.set_ylim(5e-4, max(4 * decide, *(min(look.e_fail or 0, MOST) * 3 for look in known)))
        axes.set_xlabel(unit)
        axes.set_ylabel("evidence (e-value)")
        legend_above(axes, 2)
        last = known[-1]
        return to_svg(
            figure,
            f"{words.metric_name(metric)}: the evidence",
            f"E-values over time. At last {words.number(last.e_fail)} that the canary is worse, "
            f"{words.number(last.e_pass)} that it is not worse by the margin.",
        )


def _times(looks: Sequence[Look]) -> tuple[list[float], str]:
    start = _time(looks[0].at)
    seconds = [(_time(look.at) - start).total_seconds() for look in looks]
    unit, name = _unit(seconds[-1])
    return [value / unit for value in seconds], f"{name} since the first look"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _unit(seconds: float) -> tuple[float, str]:
    for unit, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds > 3 * unit:
            return unit, name
    return 1.0, "seconds"
