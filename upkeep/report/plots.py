"""The plots: matplotlib figures as small inline SVG that takes its font from the page.

Grey is what was (the champion, the reference), blue is what is new (the candidate, the current rows); shape and
line style say the same to those who do not see the colours. The same record always gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from upkeep.data.prepared import PeriodCounts
from upkeep.drift.result import ColumnDrift, Histogram
from upkeep.evaluation.result import CurvePoint, PeriodChange, Scores
from upkeep.records import digest
from upkeep.report import words
from upkeep.training.task import Epoch

OLD, NEW, INK, MUTED, RULE = "#6b7280", "#0b62a8", "#1f2933", "#4b5563", "#d9dee5"
SEQUENCE = ("#0b62a8", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8f98")
"""Okabe and Ito's colours, told apart by the colour-blind; grey is the rest."""
WIDTH, HEIGHT, NARROW = 360, 216, 310
"""Points; about as many pixels as a figure gets on a phone, or in a grid of two or (narrow) three on a desktop."""
MAX_TICKS = 6
MAX_BINS = 40
MAX_CATEGORIES = 10
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#9aa3ae",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0,
    "hatch.linewidth": 0.6,
}


@contextmanager
def canvas(
    width: float = WIDTH, height: float = HEIGHT, *, left: float = 46, bottom: float = 22, top: float = 22
) -> Iterator[tuple[Figure, Any]]:
    """A figure with one pair of axes. Margins are given, in points: to measure them costs more than to draw."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes(
            (left / width, bottom / height, (width - left - 8) / width, (height - bottom - top) / height)
        )
        yield figure, axes


def to_svg(figure: Figure, title: str, description: str) -> Markup:
    """The figure as one ``<svg>``: no metadata, no dates, ids its own, ``title`` and ``description`` for readers."""
    title, description = words.clean(title), words.clean(description)
    name = "p" + digest(f"{title}\n{description}".encode())[:10]
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # the page's fonts draw the text: what matplotlib's own font lacks does not matter
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Markup(_tidy(buffer.getvalue(), name, title, description))


def _tidy(text: str, name: str, title: str, description: str) -> str:
    root = ET.fromstring(text)
    _, _, width, height = root.attrib["viewBox"].split()
    used = set(re.findall(r"#([\w-]+)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    for node in root.iter():
        node.tag = node.tag.removeprefix(f"{{{SVG}}}")
        for key, given in list(node.attrib.items()):
            value = given
            del node.attrib[key]
            if key == "id":
                if value in used:
                    node.set("id", f"{name}-{value}")
                continue
            value = re.sub(r"(url\(#|^#)(?![0-9a-f]{6}$)([\w-]+)", rf"\g<1>{name}-\2", value)
            if key in {"d", "transform", "x", "y", "width", "height", "points"}:
                value = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
                value = " ".join(value.split())
            if key == "style":  # the font is the page's
                value = re.sub(r"font-family: [^;]*;?\s*", "", value).rstrip("; ")
            node.set(key.replace(f"{{{XLINK}}}", ""), value)
    for node in list(root):
        if node.tag.endswith("metadata") or node.find("style") is not None:
            root.remove(node)  # matplotlib's style is one of the whole page's; the same stands below as attributes
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {float(width):g} {float(height):g}",
            "role": "img",
            "stroke-linejoin": "round",
            "aria-labelledby": f"{name}-t {name}-d",
        }
    )
    for position, (tag, words_) in enumerate((("title", title), ("desc", description))):
        node = ET.Element(tag, {"id": f"{name}-{tag[0]}"})
        node.text = words_
        root.insert(position, node)
    text = ET.tostring(root, encoding="unicode", short_empty_elements=False)
    return re.sub(r">\s+<", "><", text)


def _ticks(axes: Any, names: Sequence[str], limit: int = MAX_TICKS) -> None:
    """Periods below a plot: rather a few whole names than many that are cut (2024-01-31 has 10 letters)."""
    whole = max(1, min(10, max(map(len, names), default=1)))
    step = max(1, -(-len(names) // min(limit, 48 // whole)))
    chosen = range(0, len(names), step)
    width = max(10, 48 // max(1, len(chosen)))
    axes.set_xticks(list(chosen), [words.shorten(names[index], width) for index in chosen])


def percent_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def _counts_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:g}"


def legend_above(axes: Any, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns, columnspacing=1.1, handletextpad=0.5)


def rows_by_period(periods: Sequence[PeriodCounts]) -> Markup:
    """What became of each period's rows, stacked."""
    parts: list[tuple[str, Callable[[PeriodCounts], int], str, str]] = [
        ("training", lambda p: p.train, "#0b62a8", ""),
        ("validation", lambda p: p.validation, "#7db3de", ""),
        ("held out", lambda p: p.held_out, "#e69f00", ""),
        ("kept out, refused, duplicate", lambda p: p.kept_out + p.quarantined + p.duplicates, "#ffffff", "////"),
    ]
    with canvas(top=36) as (figure, axes):
        bottom = [0] * len(periods)
        for name, rows_of, colour, hatch in parts:
            heights = [rows_of(period) for period in periods]
            if not any(heights):
                continue
            axes.bar(
                range(len(periods)),
                heights,
                bottom=bottom,
                label=name,
                color=colour,
                hatch=hatch,
                edgecolor=OLD if hatch else "white",
                linewidth=0.5,
                width=min(0.8, 0.18 + 0.1 * len(periods)),
            )
            bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
        _ticks(axes, [period.period for period in periods])
        axes.set_xlim(-0.7, len(periods) - 0.3)
        _counts_axis(axes.yaxis)
        axes.set_ylabel("rows")
        if any(bottom):
            legend_above(axes, 2)
        total = words.count(sum(period.read for period in periods))
        return to_svg(
            figure,
            "Rows by period",
            f"Stacked bars over {words.span([p.period for p in periods])}: {total} rows read, by what became of them. "
            "The table beside it holds the numbers.",
        )


def classes_by_period(periods: Sequence[PeriodCounts], classes: Sequence[str], positive: str | None) -> Markup:
    """The class shares of each period: one line for two classes, a stack of shares for more."""
    totals = [sum(period.by_class.values()) for period in periods]

    def shares(name: str) -> list[float]:
        return [p.by_class.get(name, 0) / total if total else 0.0 for p, total in zip(periods, totals, strict=True)]

    # a rare class has ticks as long as 0.25 %, and its axis a name
    with canvas(left=58 if positive is not None else 46, top=8 if positive is not None else 36) as (figure, axes):
        if positive is not None:
            values = shares(positive)
            axes.plot(range(len(periods)), values, color=NEW, marker="o", markersize=4.5, linewidth=1.6)
            axes.set_ylim(0, max([*values, 0.01]) * 1.2)
            axes.set_ylabel(f"share of “{words.shorten(positive, 18)}”")
            told = "; ".join(f"{p.period}: {words.percent(v)}" for p, v in zip(periods, values, strict=True))
            description = f"Line of the share of {positive} in each period. {told}."
        else:
            largest = sorted(classes, key=lambda name: -sum(p.by_class.get(name, 0) for p in periods))
            shown = [name for name in classes if name in set(largest[: len(SEQUENCE) - 1])]
            bottom = [0.0] * len(periods)
            for name, colour in zip(shown, SEQUENCE, strict=False):
                heights = shares(name)
                axes.bar(
                    range(len(periods)),
                    heights,
                    bottom=bottom,
                    label=words.shorten(name, 14),
                    color=colour,
                    edgecolor="white",
                    linewidth=0.6,
                )
                bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
            if len(shown) < len(classes):
                rest = [1 - below if total else 0 for below, total in zip(bottom, totals, strict=True)]
                axes.bar(range(len(periods)), rest, bottom=bottom, label="other classes", color=SEQUENCE[-1])
            axes.set_ylim(0, 1)
            if shown:
                legend_above(axes, 3)
            description = f"Stacked shares of {words.plural(len(classes), 'class', 'classes')} in each period."
        percent_axis(axes.yaxis)
        _ticks(axes, [period.period for period in periods])
        axes.set_xlim(-0.7, len(periods) - 0.3)
        return to_svg(figure, "Class shares by period", description)


def histogram(column: ColumnDrift) -> Markup | None:
    """Reference and current shares of one column; None where the record holds no histogram."""
    if column.histogram is None or not column.histogram.labels:
        return None
    if column.kind == "numeric":
        return _numeric_histogram(column, column.histogram)
    return _category_histogram(column, column.histogram)


def _numeric_histogram(column: ColumnDrift, shares: Histogram) -> Markup:
    edges = list(shares.edges or ())
    reference, current = list(shares.reference), list(shares.current)
    step = -(-len(reference) // MAX_BINS)
    if step > 1:
        edges = edges[step - 1 :: step]
        reference, current = (
            [sum(values[start : start + step]) for start in range(0, len(values), step)]
            for values in (reference, current)
        )
        edges = edges[: len(reference) - 1]
    with canvas(NARROW, 170) as (figure, axes):
        positions = list(range(len(reference) + 1))
        axes.stairs(reference, positions, fill=True, color="#c3c9d1", label="reference")
        axes.stairs(reference, positions, color=OLD, linewidth=1, linestyle=(0, (3, 1.5)))
        axes.stairs(current, positions, color=NEW, linewidth=1.8, label="current")
        if len(edges) == len(reference) - 1 and edges:
            every = max(1, -(-len(edges) // MAX_TICKS))
            chosen = list(range(0, len(edges), every))
            axes.set_xticks([index + 1 for index in chosen], [f"{edges[index]:.4g}" for index in chosen])
        else:
            names = [words.shorten(text, 12) for text in shares.labels]
            every = max(1, -(-len(names) // 4))
            chosen = list(range(0, len(reference), every))
            axes.set_xticks([index + 0.5 for index in chosen], [names[index] for index in chosen])
        axes.set_xlim(0, len(reference))
        axes.set_ylim(0, max([*reference, *current, 0.001]) * 1.08)
        axes.set_ylabel("share of rows")
        percent_axis(axes.yaxis)
        legend_above(axes, 2)
        return to_svg(
            figure,
            f"Distribution of {column.column}",
            f"Shares of the rows in {len(reference)} bins, reference and current. {column.reason}",
        )


def _category_histogram(column: ColumnDrift, shares: Histogram) -> Markup:
    rows = list(zip(shares.labels, shares.reference, shares.current, strict=True))
    order = sorted(rows, key=lambda row: -max(row[1], row[2]))
    shown, rest = order[:MAX_CATEGORIES], order[MAX_CATEGORIES:]
    if rest:
        shown.append((f"{len(rest)} others", sum(row[1] for row in rest), sum(row[2] for row in rest)))
    news = set(column.new_categories)
    names = [words.shorten(name, 18) + (" (new)" if name in news else "") for name, _, _ in shown]
    with canvas(NARROW, 44 + 18 * len(shown), left=12 + 5.4 * max(len(name) for name in names)) as (figure, axes):
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        places = range(len(shown))
        axes.barh(
            [y - 0.19 for y in places], [row[1] for row in shown], height=0.36, color="#b4bbc5", label="reference"
        )
        axes.barh([y + 0.19 for y in places], [row[2] for row in shown], height=0.36, color=NEW, label="current")
        axes.set_yticks(list(places), names)
        axes.invert_yaxis()
        axes.spines["bottom"].set_visible(False)
        percent_axis(axes.xaxis)
        axes.tick_params(axis="x", length=0)
        legend_above(axes, 2)
        told = "; ".join(
            f"{name}: {words.percent(was)} in the reference, {words.percent(now)} now" for name, was, now in shown[:5]
        )
        return to_svg(figure, f"Distribution of {column.column}", f"Shares of the rows by category. {told}.")


def roc(scores: Mapping[str, Scores]) -> Markup | None:
    """The ROC curves of champion and candidate; None where neither has one."""
    curves = {who: score for who, score in scores.items() if score.roc}
    if not curves:
        return None
    with canvas(height=280, bottom=36, top=8) as (figure, axes):
        axes.grid(visible=True, axis="both")
        axes.plot([0, 1], [0, 1], color="#9aa3ae", linewidth=0.9, linestyle=":")
        for who, score in curves.items():
            area = score.metrics.get("roc_auc")
            name = who if area is None else f"{who}, area {words.number(area)}"
            axes.plot([p[0] for p in score.roc], [p[1] for p in score.roc], label=name, **_line(who))
        _square(axes)
        axes.set_xlabel("share of negatives flagged (false alarms)")
        axes.set_ylabel("share of positives found")
        axes.legend(loc="lower right", bbox_to_anchor=(0.98, 0.04))
        told = ", ".join(f"{who} {words.number(score.metrics.get('roc_auc'))}" for who, score in curves.items())
        return to_svg(figure, "ROC curves", f"Share of positives found against false alarms. Areas: {told}.")


def calibration(scores: Mapping[str, Scores]) -> Markup | None:
    """Stated against observed probability, a point a bin; None where nobody has one."""
    curves = {who: score for who, score in scores.items() if score.calibration}
    if not curves:
        return None
    with canvas(height=280, bottom=36, top=8) as (figure, axes):
        axes.grid(visible=True, axis="both")
        axes.plot([0, 1], [0, 1], color="#9aa3ae", linewidth=0.9, linestyle=":")
        for who, score in curves.items():
            points = sorted(score.calibration)
            most = max(rows for _, _, rows in points) or 1
            style = _line(who)
            axes.plot([p[0] for p in points], [p[1] for p in points], label=who, **style)
            axes.scatter(
                [p[0] for p in points],
                [p[1] for p in points],
                s=[6 + 50 * rows / most for _, _, rows in points],
                marker=_marker(who),
                facecolor="white",
                edgecolor=style["color"],
                linewidth=1.3,
                zorder=3,
            )
        _square(axes)
        axes.set_xlabel("probability the model states")
        axes.set_ylabel("share that came true")
        axes.legend(loc="upper left", bbox_to_anchor=(0.03, 0.98))
        told = ", ".join(
            f"{who} {words.number(score.metrics.get('expected_calibration_error'))}" for who, score in curves.items()
        )
        return to_svg(
            figure,
            "Calibration",
            f"Stated against observed probability; on the diagonal the two agree. Mean distance: {told}.",
        )


def _line(who: str) -> dict[str, Any]:
    if who == "champion":
        return {"color": OLD, "linewidth": 1.5, "linestyle": (0, (4, 2))}
    return {"color": NEW, "linewidth": 1.9, "linestyle": "-"}


def _marker(who: str) -> str:
    return "s" if who == "champion" else "o"


def _square(axes: Any) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_aspect("equal")


def by_period(scores: Mapping[str, Mapping[str, Scores]], metric: str, new: Sequence[str]) -> Markup | None:
    """The metric of champion and candidate on each period's held-out rows; the new periods stand on a tint."""
    periods = sorted({period for found in scores.values() for period in found})
    series: dict[str, list[tuple[int, float, float, float]]] = {}
    for who in ("champion", "candidate"):
        found = scores.get(who, {})
        points = []
        for place, period in enumerate(periods):
            value = found[period].metrics.get(metric) if period in found else None
            if value is None:
                continue
            spread = found[period].intervals.get(metric)
            points.append((place, value, spread.low if spread else value, spread.high if spread else value))
        if points:
            series[who] = points
    if not series:
        return None
    with canvas(width=560, height=230) as (figure, axes):
        places = [place for place, period in enumerate(periods) if period in set(new)]
        if places:
            axes.axvspan(min(places) - 0.5, max(places) + 0.5, color="#eaf2fa", zorder=0)
        for who, points in series.items():
            offset = 0.0 if len(series) == 1 else -0.08 if who == "champion" else 0.08
            xs, ys = [p[0] + offset for p in points], [p[1] for p in points]
            style = _line(who)
            axes.errorbar(
                xs,
                ys,
                yerr=[
                    [max(0.0, y - p[2]) for y, p in zip(ys, points, strict=True)],
                    [max(0.0, p[3] - y) for y, p in zip(ys, points, strict=True)],
                ],
                fmt="none",
                ecolor=style["color"],
                elinewidth=1.2,
                capsize=2.5,
            )
            axes.plot(xs, ys, marker=_marker(who), markersize=5, markerfacecolor="white", label=who, **style)
        _ticks(axes, periods, limit=8)
        axes.set_xlim(-0.6, len(periods) - 0.4)
        axes.set_ylabel(words.metric_name(metric))
        if places:
            axes.text(
                max(places) + 0.45, 0.97, "new", transform=axes.get_xaxis_transform(), ha="right", va="top", color=NEW
            )
        legend_above(axes, 2)
        told = "; ".join(
            f"{who} from {words.number(points[0][1])} in {periods[points[0][0]]} to {words.number(points[-1][1])} in "
            f"{periods[points[-1][0]]}"
            for who, points in series.items()
        )
        return to_svg(
            figure,
            f"{words.metric_name(metric)} by period",
            f"On each period's held-out rows, with 95 % intervals: {told}.",
        )


def training(curve: Sequence[Epoch], candidate: str) -> Markup | None:
    """The loss of a network's training, epoch by epoch, and of the watched rows where there are any; None below two."""
    if len(curve) < 2:
        return None
    series = {
        "rows that taught": [(epoch.number, epoch.loss) for epoch in curve],
        "watched rows": [(epoch.number, epoch.watched) for epoch in curve if epoch.watched is not None],
    }
    best = min(series["watched rows"], key=lambda point: point[1], default=None)
    with canvas(bottom=36) as (figure, axes):
        for (name, points), who in zip(series.items(), ("candidate", "champion"), strict=True):
            if points:
                marked = (
                    {"marker": _marker(who), "markersize": 4, "markerfacecolor": "white"} if len(points) < 40 else {}
                )
                axes.plot(*zip(*points, strict=True), label=name, **marked, **_line(who))
        if best:
            axes.axvline(best[0], color="#9aa3ae", linewidth=0.9, linestyle=":")
        _epochs(axes, curve, "loss")
        legend_above(axes, 2)
        told = "; ".join(f"{name} from {words.number(points[0][1])} to {words.number(points[-1][1])}"
                         for name, points in series.items() if points)  # fmt: skip
        told += f"; least on watched rows after epoch {best[0]}" if best else ""
        return to_svg(figure, f"Loss of {candidate} by epoch", f"{len(curve)} epochs: {told}.")


def training_accuracy(curve: Sequence[Epoch], candidate: str) -> Markup | None:
    """The share of the watched rows that a network answered right, epoch by epoch; None below two."""
    points = [(epoch.number, epoch.accuracy) for epoch in curve if epoch.accuracy is not None]
    if len(points) < 2:
        return None
    with canvas(bottom=36, top=8) as (figure, axes):
        axes.plot(*zip(*points, strict=True), marker="s", markersize=4, markerfacecolor="white", **_line("champion"))
        percent_axis(axes.yaxis)
        _epochs(axes, curve, "share answered right")
        told = f"from {words.percent(points[0][1])} to {words.percent(points[-1][1])}"
        return to_svg(figure, f"Accuracy of {candidate} by epoch", f"On watched rows, {told}.")


def _epochs(axes: Any, curve: Sequence[Epoch], name: str) -> None:
    _counts_axis(axes.xaxis)
    axes.set_xlim(curve[0].number - 0.5, curve[-1].number + 0.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel(name)


def forgetting(periods: Sequence[PeriodChange], metric: str, candidate: str) -> Markup | None:
    """Before and after on each period, joined by a line; the periods that were new to it stand on a tint."""
    shown = [(one, one.before, one.after) for one in periods if one.before is not None and one.after is not None]
    if not shown:
        return None
    with canvas(width=560, height=230) as (figure, axes):
        new = [place for place, (one, _, _) in enumerate(shown) if not one.known_before]
        if new:
            axes.axvspan(min(new) - 0.5, max(new) + 0.5, color="#eaf2fa", zorder=0)
        for place, (_, before, after) in enumerate(shown):
            axes.plot([place, place], [before, after], color="#9aa3ae", linewidth=1.4, zorder=1)
        for who, values, label in (
            ("champion", [before for _, before, _ in shown], "before"),
            ("candidate", [after for _, _, after in shown], "after"),
        ):
            axes.scatter(
                range(len(shown)),
                values,
                s=34,
                marker=_marker(who),
                facecolor="white" if who == "champion" else NEW,
                edgecolor=_line(who)["color"],
                linewidth=1.5,
                zorder=3,
                label=label,
            )
        _ticks(axes, [one.period for one, _, _ in shown], limit=8)
        axes.set_xlim(-0.6, len(shown) - 0.4)
        axes.set_ylabel(words.metric_name(metric))
        if new:
            where = {"transform": axes.get_xaxis_transform(), "ha": "right", "va": "top"}
            axes.text(max(new) + 0.45, 0.97, "new to it", color=NEW, **where)
        legend_above(axes, 2)
        told = "; ".join(f"{one.period}: {words.number(a)} before, {words.number(b)} after" for one, a, b in shown)
        return to_svg(figure, f"{words.metric_name(metric)} of {candidate} before and after this update", f"{told}.")


def curve(points: Sequence[CurvePoint], title: str, x: str, metric: str, *, who: str = "candidate") -> Markup | None:
    """A learning curve or ageing: the score with its interval over rows, periods or age."""
    if not points:
        return None
    with canvas(NARROW, 190, bottom=36, top=8) as (figure, axes):
        xs = [point.x for point in points]
        style = _line(who)
        axes.fill_between(
            xs,
            [p.score.low for p in points],
            [p.score.high for p in points],
            color=style["color"],
            alpha=0.16,
            linewidth=0,
        )
        axes.errorbar(
            xs,
            [p.score.estimate for p in points],
            yerr=[
                [max(0.0, p.score.estimate - p.score.low) for p in points],
                [max(0.0, p.score.high - p.score.estimate) for p in points],
            ],
            fmt="none",
            ecolor=style["color"],
            elinewidth=1,
            capsize=2,
        )
        axes.plot(
            xs,
            [p.score.estimate for p in points],
            marker=_marker(who),
            markersize=5,
            markerfacecolor="white",
            **style,
        )
        axes.set_xlabel(x)
        axes.set_ylabel(words.metric_name(metric))
        axes.margins(x=0.05)
        if max(xs) > 12:
            _counts_axis(axes.xaxis)
        else:
            axes.set_xticks(sorted(set(xs)), [f"{value:g}" for value in sorted(set(xs))])
        told = "; ".join(f"{p.label}: {words.interval(p.score)}" for p in points)
        return to_svg(figure, title, f"{words.metric_name(metric)} with 95 % intervals. {told}.")
