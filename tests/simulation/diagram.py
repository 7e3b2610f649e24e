"""What ``decide`` does, as a table and a picture for docs/explanation/rollout.md: explored, not drawn by hand.

python -m tests.simulation.diagram
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.grid import Case, cases
from upkeep.errors import RefusedError
from upkeep.rollout import commands
from upkeep.rollout.decide import decide
from upkeep.rollout.state import State

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "rollout.md"
PICTURE = ROOT / "docs" / "pictures" / "rollout.svg"
BEGIN, END = "<!-- made by python -m tests.simulation.diagram -->", "<!-- end -->"

COLUMNS = (
    "pending",
    "shadow",
    "step",
    "promoting",
    "baking",
    "held",
    "paused",
    "rolling_back",
    "pending*",
    "promoting*",
)
"""``*``: a person's way back to an earlier version (``direct``)."""

PLACES: dict[str, tuple[int, int]] = {
    "pending": (85, 210),
    "shadow": (245, 210),
    "step": (405, 210),
    "promoting": (565, 210),
    "baking": (725, 210),
    "succeeded": (885, 210),
    "held": (325, 60),
    "paused": (645, 60),
    "rolling_back": (405, 370),
    "rolled_back": (725, 370),
}
WIDTH, HEIGHT = 112, 44
COLORS = {"forward": "#15803d", "wait": "#b45309", "back": "#b91c1c", "person": "#475569"}


@dataclass
class Explored:
    cells: dict[tuple[str, str], dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    """(event, phase) → what becomes of it, in order."""
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    """(from, to) → kind: by ``decide``, or by a person's command alone."""


def explore() -> Explored:
    found = Explored()
    for case in cases():
        new = decide(case.plan, case.state, case.observation, case.now).state
        column = case.state.phase + ("*" if case.state.direct else "")
        found.cells[case.event, column][_becomes(case.state, new)] = None
        if new != case.state and (new.phase != case.state.phase or new.weight > case.state.weight):
            found.edges[case.state.phase, new.phase] = _kind(new)
    for case in cases():
        if case.event == "the evidence says pass":
            for new in _commanded(case):
                if new.phase != case.state.phase:
                    found.edges.setdefault((case.state.phase, new.phase), "person")
    return found


def _commanded(case: Case) -> list[State]:
    said = {"by": "Ann", "reason": "", "now": case.now}
    made = []
    for command in (
        lambda: commands.pause(case.state, **said),  # type: ignore[arg-type]
        lambda: commands.resume(case.state, **said),  # type: ignore[arg-type]
        lambda: commands.abort(case.state, **said),  # type: ignore[arg-type]
        lambda: commands.promote(case.plan, case.state, case.observation, **said),  # type: ignore[arg-type]
        lambda: commands.promote(case.plan, case.state, case.observation, full=True, **said),  # type: ignore[arg-type]
    ):
        try:
            made.append(command())
        except RefusedError:
            continue
    return made


def _becomes(old: State, new: State) -> str:
    if new == old:
        return ""
    if new.phase != old.phase:
        return f"`{new.phase}`"
    if new.weight > old.weight:
        return "the next step" if new.phase == "step" else "stays, at that weight"
    return "its time starts anew" if new.reason == old.reason else "stays, at 0 %"


def _kind(state: State) -> str:
    if state.phase in ("held", "paused"):
        return "wait"
    return "back" if state.phase in ("rolling_back", "rolled_back") else "forward"


def table(found: Explored) -> str:
    events = dict.fromkeys(event for event, _ in found.cells)
    head = "| what is known | " + " | ".join(f"`{phase}`".replace("*`", "` \\*") for phase in COLUMNS) + " |"
    lines = [head, "| --- |" + " --- |" * len(COLUMNS)]
    for event in events:
        cells = []
        for phase in COLUMNS:
            told = found.cells.get((event, phase), {})
            moves = [text for text in told if text]
            cells.append(" or ".join(moves) + (" or stays" if moves and "" in told else "") or "·")
        lines.append(f"| {event} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(found: Explored) -> str:
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 980 470" role="img" font-size="14"',
        ' font-family="system-ui, sans-serif" aria-label="The phases of a rollout and the ways between them">',
        '<rect width="980" height="470" fill="#ffffff"/>',
        "<defs>",
        *(
            f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse">'
            f'<path d="M0 0 8 4 0 8Z" fill="{color}"/></marker>'
            for kind, color in COLORS.items()
        ),
        "</defs>",
    ]
    for (begin, end), kind in sorted(found.edges.items(), key=lambda edge: (edge[1], edge[0])):
        both = (end, begin) in found.edges and begin != end
        way_back = both and kind == "person" and (found.edges[end, begin] != "person" or begin > end)
        if way_back or begin == end == "paused":
            continue  # it lies on the way there, which got two heads
        dash = ' stroke-dasharray="5 4"' if kind == "person" else ""
        heads = f'marker-end="url(#{kind})"' + (f' marker-start="url(#{kind})"' if both else "")
        parts.append(
            f'<path d="{_curve(begin, end)}" fill="none" stroke="{COLORS[kind]}" stroke-width="1.6"{dash} '
            f"{heads}><title>{begin} to {end}</title></path>"
        )
    for phase, (x, y) in PLACES.items():
        kind = {"held": "wait", "paused": "wait", "rolling_back": "back", "rolled_back": "back"}.get(phase, "forward")
        parts.append(
            f'<rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="9" '
            f'fill="#f8fafc" stroke="{COLORS[kind]}" stroke-width="1.6"/>'
            f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="#0f172a">{phase}</text>'
        )
    words = {"forward": "forward, on evidence", "wait": "to a person, and back", "back": "taken back",
             "person": "by a person's command alone"}  # fmt: skip
    for number, (kind, text) in enumerate(words.items()):
        x = 30 + 225 * number
        dash = ' stroke-dasharray="5 4"' if kind == "person" else ""
        parts.append(
            f'<path d="M{x} 440h34" stroke="{COLORS[kind]}" stroke-width="1.6"{dash} marker-end="url(#{kind})"/>'
            f'<text x="{x + 44}" y="445" fill="#0f172a">{text}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _curve(begin: str, end: str) -> str:
    """A bow from border to border; longer ones along a row go over or under their neighbours."""
    (x0, y0), (x1, y1) = PLACES[begin], PLACES[end]
    half, tall = WIDTH // 2, HEIGHT // 2
    if begin == end:
        return f"M{x0 - 14} {y0 - tall}C{x0 - 34} {y0 - tall - 44} {x0 + 34} {y0 - tall - 44} {x0 + 14} {y0 - tall - 2}"
    if y0 == y1:
        side = 1 if x1 > x0 else -1
        if abs(x1 - x0) < 170 or y0 != PLACES["step"][1]:
            return f"M{x0 + side * half} {y0}L{x1 - side * (half + 2)} {y1}"
        bow = 30 + abs(x1 - x0) // 9
        bend = -bow if y0 < 100 else bow
        edge = tall if bend > 0 else -tall
        return (
            f"M{x0 + side * 30} {y0 + edge}C{x0 + side * 60} {y0 + edge + bend} {x1 - side * 60} {y1 + edge + bend} "
            f"{x1 - side * 34} {y1 + edge}"
        )
    down = 1 if y1 > y0 else -1
    # each way its own lane, so that there and back do not lie on each other
    lane = 9 * down + round(math.copysign(min(36, abs(x1 - x0) / 8), x1 - x0))
    start, stop = (x0 + lane, y0 + down * tall), (x1 + 9 * down - lane // 2, y1 - down * (tall + 2))
    middle = (start[1] + stop[1]) // 2
    return f"M{start[0]} {start[1]}C{start[0]} {middle} {stop[0]} {middle} {stop[0]} {stop[1]}"


def page(text: str, found: Explored) -> str:
    """``text`` with its table made anew."""
    made = f"{BEGIN}\n\n{table(found)}\n\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: made, text, flags=re.DOTALL)


def main() -> None:
    found = explore()
    PICTURE.write_text(picture(found))
    PAGE.write_text(page(PAGE.read_text(), found))


if __name__ == "__main__":
    main()
