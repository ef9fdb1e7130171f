"""The cluster as a picture: every block a rack, every node a cell coloured by its state, every job outlined.

SVG without scripts or outside fonts; a cell's tooltip has the node's name, state, reason and jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape as escape_marks

from hpadmin.topology.placement.state import JobView, Snapshot
from hpadmin.topology.units import Cell, Condition, Overview, Unit, overviews, visible

FILL = {
    Condition.IDLE: "#1f8a5b",
    Condition.SHARED: "#4a6fa8",
    Condition.BUSY: "#33476b",
    Condition.DRAINING: "#8a6a1c",
    Condition.DRAINED: "#d89b25",
    Condition.DOWN: "#cf3f3f",
    Condition.BLOCKED: "#24493c",
    Condition.HELD: "#6b7280",
}
INK = {Condition.DRAINED: "#201500"}
JOB_COLOURS = (
    "#7cc7ff",
    "#ff9ecb",
    "#ffd166",
    "#b6f09c",
    "#c9a6ff",
    "#ffb086",
    "#7ff0e4",
    "#f4f1a6",
    "#9db4ff",
    "#ff8f8f",
)
"""Outlines of jobs, told apart from each other and from all fills; neighbours in the list differ most."""

CELL_WIDTH, CELL_HEIGHT, GAP = 116, 18, 3
PAD, HEADER = 12, 44
RACK_WIDTH = CELL_WIDTH + 2 * PAD
MARGIN, TOP, SPACE = 32, 92, 18
LEGEND_ROW = 26
FONT = "font-family='DejaVu Sans,Verdana,Segoe UI,sans-serif'"


@dataclass(frozen=True, slots=True)
class _Layout:
    columns: int
    rows: int
    slots: int

    @property
    def rack_height(self) -> int:
        return HEADER + self.slots * (CELL_HEIGHT + GAP) + PAD

    @property
    def width(self) -> int:
        return 2 * MARGIN + self.columns * RACK_WIDTH + (self.columns - 1) * SPACE

    def rack(self, index: int) -> tuple[int, int]:
        """Upper left corner of a rack."""
        row, column = divmod(index, self.columns)
        return MARGIN + column * (RACK_WIDTH + SPACE), TOP + row * (self.rack_height + SPACE)

    @property
    def racks_end(self) -> int:
        return TOP + self.rows * (self.rack_height + SPACE)


def picture(snapshot: Snapshot, title: str = "") -> str:
    """The default topology (or the first that has units) of `snapshot` as an SVG document."""
    overview = _first(snapshot)
    return "\n".join(_svg(overview, title or overview.name)) + "\n"


def page(snapshot: Snapshot, title: str = "") -> str:
    """The same as a web page, which fills the screen it is on."""
    svg = picture(snapshot, title)
    name = escape(title or _first(snapshot).name)
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<title>{name}</title>"
        "<meta name='viewport' content='width=device-width'>"
        "<style>body{margin:0;background:#0d1422}svg{display:block;width:100%;height:auto}</style>"
        f"</head><body>\n{svg}</body></html>\n"
    )


def escape(text: str) -> str:
    """`text` as XML may hold it."""
    return escape_marks(visible(text))


def _stroke(number: int) -> str:
    """The outline of the n-th job: a colour of its own, and a dash pattern once the colours are used up."""
    cycle, colour = divmod(number, len(JOB_COLOURS))
    dash = f" stroke-dasharray='{4 + 4 * cycle} 3'" if cycle else ""
    return f"stroke='{JOB_COLOURS[colour]}'{dash}"


def _first(snapshot: Snapshot) -> Overview:
    found = overviews(snapshot)
    default = snapshot.topologies.default.name
    return next((one for one in found if one.name == default), found[0])


def _plan(overview: Overview) -> _Layout:
    units = max(1, len(overview.units))
    slots = max([1, *(unit.capacity for unit in overview.units)])
    tall = HEADER + slots * (CELL_HEIGHT + GAP) + PAD + SPACE
    # As wide as a screen is: about 16 to 9.
    columns = 1
    while columns < units and columns * (RACK_WIDTH + SPACE) * 9 < -(-units // columns) * tall * 16:
        columns += 1
    if units <= 8:
        columns = units
    rows = -(-units // columns)
    columns = -(-units // rows)
    return _Layout(max(columns, 4), rows, slots)


def _svg(overview: Overview, title: str) -> Iterator[str]:
    layout = _plan(overview)
    strokes = {job.job_id: _stroke(number) for number, job in enumerate(overview.jobs)}
    per_row = max(1, (layout.width - 2 * MARGIN) // 300)
    height = layout.racks_end + 56 + LEGEND_ROW * -(-len(strokes) // per_row) + MARGIN
    width = layout.width
    yield (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' "
        f"height='{height}' role='img' aria-label='{escape(title)}: {escape(_summary(overview))}' {FONT}>"
    )
    yield f"<rect width='{width}' height='{height}' fill='#0d1422'/>"
    yield _text(MARGIN, 40, title, 24, "#f3f6fb", weight="bold")
    yield _text(MARGIN, 66, f"{_summary(overview)} · {overview.title}", 14, "#9fb0cc")
    for index, unit in enumerate(overview.units):
        yield from _rack(unit, *layout.rack(index), layout, strokes)
    yield from _legend(overview, layout, strokes, per_row)
    yield "</svg>"


def _summary(overview: Overview) -> str:
    noun = {"block": "blocks", "tree": "leaf switches", "flat": "rows"}[overview.kind]
    nodes = sum(len(unit.cells) for unit in overview.units)
    free = overview.count(Condition.IDLE)
    whole = sum(1 for unit in overview.units if unit.cells and unit.count(Condition.IDLE) == len(unit.cells))
    broken = overview.count(Condition.DOWN, Condition.DRAINED, Condition.DRAINING)
    return (
        f"{len(overview.units)} {noun} · {nodes} nodes · {free} free, {whole} {noun} wholly free · "
        f"{len(overview.jobs)} jobs · {broken} nodes out of service"
    )


def _rack(unit: Unit, x: int, y: int, layout: _Layout, strokes: dict[str, str]) -> Iterator[str]:
    free = unit.count(Condition.IDLE)
    broken = unit.count(Condition.DOWN, Condition.DRAINED, Condition.DRAINING)
    edge = "#2b7a57" if unit.cells and free == len(unit.cells) else "#2a3650"
    yield (
        f"<rect x='{x}' y='{y}' width='{RACK_WIDTH}' height='{layout.rack_height}' rx='8' fill='#151f33' "
        f"stroke='{edge}' stroke-width='1.5'/>"
    )
    yield _text(x + PAD, y + 20, _shorten(unit.name, 17), 13, "#e6ecf7", weight="bold", tip=unit.name)
    blocked = unit.count(Condition.BLOCKED)
    note = (
        f"{free} free" + (f", {broken} out" if broken else "") + (f", {blocked} blocked" if blocked else "")
    )
    yield _text(x + PAD, y + 36, note, 11, "#8fa2c2")
    prefix = _common_prefix([cell.node.name for cell in unit.cells])
    top = y + HEADER
    for slot in range(layout.slots):
        at = top + slot * (CELL_HEIGHT + GAP)
        if slot < len(unit.cells):
            yield from _cell(unit.cells[slot], x + PAD, at, prefix)
        elif slot < unit.capacity:
            yield (
                f"<rect x='{x + PAD}' y='{at}' width='{CELL_WIDTH}' height='{CELL_HEIGHT}' rx='3' fill='none' "
                "stroke='#33415e' stroke-dasharray='3 3'><title>empty slot</title></rect>"
            )
    yield from _outlines(unit, x + PAD, top, strokes)


def _cell(cell: Cell, x: int, y: int, prefix: str) -> Iterator[str]:
    tip = [cell.node.name, cell.condition.value, cell.node.state, cell.node.reason]
    tip += [f"job {job.job_id} {job.user}".rstrip() for job in cell.jobs]
    yield (
        f"<g><title>{escape(' · '.join(part for part in tip if part))}</title>"
        f"<rect x='{x}' y='{y}' width='{CELL_WIDTH}' height='{CELL_HEIGHT}' rx='3' "
        f"fill='{FILL[cell.condition]}'/>"
    )
    ink = INK.get(cell.condition, "#eef3fb")
    yield _text(x + 6, y + 13, _shorten(cell.node.name.removeprefix(prefix), 8), 11, ink)
    right = _shorten(",".join(job.job_id for job in cell.jobs), 8)
    if not right and cell.condition in (Condition.DOWN, Condition.DRAINED, Condition.HELD):
        right = cell.condition.value
    if right:
        yield _text(x + CELL_WIDTH - 6, y + 13, right, 11, ink, anchor="end")
    yield "</g>"


def _outlines(unit: Unit, x: int, top: int, strokes: dict[str, str]) -> Iterator[str]:
    """One frame around every run of neighbouring cells of the same jobs."""
    start = 0
    cells = unit.cells
    while start < len(cells):
        end = start
        jobs = [job.job_id for job in cells[start].jobs]
        while end + 1 < len(cells) and [job.job_id for job in cells[end + 1].jobs] == jobs:
            end += 1
        for depth, job in enumerate(jobs[:3]):
            inset = 3 * depth
            y = top + start * (CELL_HEIGHT + GAP) - 1 + inset
            tall = (end - start) * (CELL_HEIGHT + GAP) + CELL_HEIGHT + 2 - 2 * inset
            yield (
                f"<rect x='{x - 1 + inset}' y='{y}' width='{CELL_WIDTH + 2 - 2 * inset}' height='{tall}' rx='4' "
                f"fill='none' stroke-width='2' {strokes[job]}/>"
            )
        start = end + 1


def _legend(overview: Overview, layout: _Layout, strokes: dict[str, str], per_row: int) -> Iterator[str]:
    y = layout.racks_end + 14
    x = MARGIN
    for one in Condition:
        count = overview.count(one)
        label = f"{one.value} {count}"
        faint = "" if count else " opacity='0.35'"
        yield f"<g{faint}><rect x='{x}' y='{y}' width='16' height='16' rx='3' fill='{FILL[one]}'/>"
        yield _text(x + 23, y + 13, label, 13, "#c9d5ea") + "</g>"
        x += 46 + 8 * len(label)
    wide = (layout.width - 2 * MARGIN) // per_row
    for number, job in enumerate(overview.jobs):
        row, column = divmod(number, per_row)
        left, line = MARGIN + column * wide, y + 42 + row * LEGEND_ROW
        yield (
            f"<rect x='{left + 1}' y='{line + 1}' width='14' height='14' rx='3' fill='none' "
            f"stroke-width='2.5' {strokes[job.job_id]}/>"
        )
        yield _text(left + 23, line + 13, _job_line(job, overview.units), 13, "#c9d5ea")


def _job_line(job: JobView, units: Sequence[Unit]) -> str:
    spread = sum(1 for unit in units if any(cell.node.name in job.nodes for cell in unit.cells))
    user = f" {_shorten(job.user, 10)}" if job.user else ""
    alone = " · alone" if job.exclusive_topo else ""
    return f"{job.job_id}{user} · {len(job.nodes)} nodes in {spread}{alone}"


def _text(
    x: int, y: int, text: str, size: int, fill: str, *, weight: str = "", anchor: str = "", tip: str = ""
) -> str:
    more = (f" font-weight='{weight}'" if weight else "") + (f" text-anchor='{anchor}'" if anchor else "")
    title = f"<title>{escape(tip)}</title>" if tip and tip != text else ""
    return f"<text x='{x}' y='{y}' font-size='{size}' fill='{fill}'{more}>{escape(text)}{title}</text>"


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _common_prefix(names: Sequence[str]) -> str:
    """What all names start with, up to the last separator: it is on the rack already."""
    if len(names) < 2:
        return ""
    low, high = min(names), max(names)
    end = 0
    while end < min(len(low), len(high)) and low[end] == high[end]:
        end += 1
    cut = max(low.rfind(mark, 0, end) for mark in "-._")
    return low[: cut + 1]
