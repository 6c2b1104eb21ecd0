"""One chart as SVG: lines, bands, levels, and a ribbon that says which network answers when.

Own code, as a page without network must hold its charts: a plotting library's script alone is
larger than the page may be, and matplotlib's SVG knows neither the page's colours nor its values.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.resources import files
from itertools import pairwise
from json import dumps

from disback_plugin.lab.report.scales import Scale

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 480, 310
LEFT, RIGHT, TOP, BOTTOM = 50, 446, 34, 270  # the plot's frame
RIBBON, RIBBON_HEIGHT = 8, 18
LEGEND, NAME = 30, 105  # height of a legend, width of a name in it
LETTER = 7.2  # widest usual letter of a label
COLUMN = 1.5  # of points that share a column of so many pixels, the highest and lowest are drawn


@dataclass(frozen=True, kw_only=True)
class Line:
    """style: CSS classes (`arm-fixed`). weight: `middle` or `seed`. band: upper and lower edge."""

    style: str
    points: Points
    weight: str = "middle"
    band: tuple[Points, Points] | None = None
    markers: Sequence[bool] = ()  # a dot a point: filled or hollow


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Of the ribbon, from `begin` to `end`: what answers, `short` where there is no room for it."""

    name: str
    short: str
    style: str
    begin: float
    end: float
    strength: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Chart:
    """levels: {value: label}, named at the right. reference: value and name of a dotted line.

    names: of the lines by their style, for a file's legend; a page has its own.
    """

    label: str
    x: Scale
    y: Scale
    x_label: str
    lines: Sequence[Line]
    levels: Mapping[float, str]
    reference: tuple[float, str] | None = None
    ribbon: Sequence[Segment] = ()
    x_names: Mapping[float, str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def svg(self, style: str = "") -> str:
        """An element for a page that has chart.css; with its scales, for the page's script."""
        scales = escape(dumps({"x": asdict(self.x), "y": asdict(self.y)}))
        frame = f"{LEFT} {RIGHT} {TOP} {BOTTOM}"
        head = (
            f'<svg class="chart {style}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self.label)}" data-frame="{frame}" data-scales="{scales}">'
        )
        return f"{head}{self.inner()}</svg>"

    def file(self) -> str:
        """The same as a file of its own with a legend, light or dark as its reader likes."""
        inner = self.inner() + legend(self.names, HEIGHT + 16)
        return alone(inner, WIDTH, HEIGHT + LEGEND, self.label)

    def inner(self) -> str:
        """What is drawn, WIDTH by HEIGHT, for a part of a larger figure."""
        return "".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield from self._grid()
        yield from self._ribbon()
        for line in sorted(self.lines, key=lambda line: line.weight != "seed"):
            yield from self._line(line)
        yield from self._levels()

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return self._x(x), BOTTOM - self.y.position(y) * (BOTTOM - TOP)

    def _x(self, x: float) -> float:
        return LEFT + self.x.position(x) * (RIGHT - LEFT)

    def _grid(self) -> Iterator[str]:
        for value in self.y.ticks(6):
            _, y = self._at(self.x.low, value)
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
            yield text(LEFT - 6, y + 4, f"{value:g}", "end")
        names = self.x_names or {value: f"{value:,.6g}" for value in self.x.ticks(6)}
        for value, name in names.items():
            yield f'<path class="axis" d="M{self._x(value):.1f} {BOTTOM}v4"/>'
            yield text(self._x(value), BOTTOM + 17, name, "middle")
        yield f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>'
        yield text((LEFT + RIGHT) / 2, HEIGHT - 6, self.x_label, "middle", "label")

    def _ribbon(self) -> Iterator[str]:
        for one in self.ribbon:
            begin, end = self._x(one.begin), self._x(min(one.end, self.x.high))
            if one.begin > self.x.high:
                continue
            yield (
                f'<g class="segment {one.style}"><title>{escape(one.name)}</title>'
                f'<rect x="{begin:.1f}" y="{RIBBON}" width="{max(end - begin, 0.5):.1f}" '
                f'height="{RIBBON_HEIGHT}" fill-opacity="{one.strength:.2f}"/>'
            )
            for name in (one.name, one.short):
                if len(name) * LETTER + 4 <= end - begin:
                    yield text((begin + end) / 2, RIBBON + 13.5, name, "middle")
                    break
            yield "</g>"
            if begin > LEFT:
                yield f'<path class="switch" d="M{begin:.1f} {RIBBON + RIBBON_HEIGHT}V{BOTTOM}"/>'

    def _line(self, line: Line) -> Iterator[str]:
        yield f'<g class="{line.style}">'
        if line.band is not None:
            upper, lower = (self._placed(edge) for edge in line.band)
            yield f'<path class="band" d="{way([*upper, *lower[::-1]], closed=True)}"/>'
        yield f'<path class="line {line.weight}" d="{way(self._placed(line.points))}"/>'
        for point, filled in zip(line.points, line.markers, strict=False):
            x, y = self._at(*point)
            kind = "dot" if filled else "dot hollow"
            yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        yield "</g>"

    def _placed(self, points: Points) -> list[tuple[float, float]]:
        return thinned([self._at(x, y) for x, y in points])

    def _levels(self) -> Iterator[str]:
        last = float("inf")
        for value in sorted(self.levels):
            _, y = self._at(self.x.low, value)
            if not TOP <= y <= BOTTOM:
                continue
            yield f'<path class="level" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
            if last - y >= 13:
                yield text(RIGHT + 4, y + 4, self.levels[value], "start")
                last = y
        if self.reference is not None:
            value, name = self.reference
            if self.y.low <= value <= self.y.high:
                _, y = self._at(self.x.low, value)
                yield f'<path class="reference" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
                yield text(LEFT + 6, y - 5 if y > TOP + 16 else y + 14, name, "start", "label")
            else:
                where = "below" if value < self.y.low else "above"
                y = BOTTOM - 6 if value < self.y.low else TOP + 14
                yield text(LEFT + 6, y, f"{name}: {value:.3g}, {where}", "start", "label")


def legend(names: Mapping[str, str], y: float) -> str:
    """A row of lines and their names; names: by style."""
    parts = []
    for index, (style, name) in enumerate(names.items()):
        x = LEFT + index * NAME
        line = f'<path class="line middle" d="M{x} {y - 4}h26"/>'
        parts.append(f'<g class="{style}">{line}{text(x + 32, y, name, "start")}</g>')
    return "".join(parts)


def text(x: float, y: float, words: str, anchor: str, style: str = "tick") -> str:
    """A piece of text at a place."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{style}" {where}>{escape(words)}</text>'


def way(points: Points, closed: bool = False) -> str:
    """Path data through the points: to a tenth of a pixel, each relative to the one before."""
    tenths = [(round(10 * x), round(10 * y)) for x, y in points]
    if not tenths:
        return ""
    moves = [(x - u, y - v) for (u, v), (x, y) in pairwise(tenths)]
    steps = " ".join(f"{_short(x)}{'' if y < 0 else ' '}{_short(y)}" for x, y in moves)
    start = f"M{_short(tenths[0][0])} {_short(tenths[0][1])}"
    return f"{start}l{steps or '0 0'}{'z' if closed else ''}"


def _short(tenths: int) -> str:
    """As short as SVG reads it: `-.5`, `3`."""
    text = f"{tenths / 10:g}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def thinned(points: Points) -> list[tuple[float, float]]:
    """Of many points in one column of pixels the first, the extremes and the last: it looks alike.

    points: in pixels, from left to right.
    """
    columns: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        columns.setdefault(int(point[0] / COLUMN), []).append(point)
    kept = []
    for column in columns.values():
        extremes = {column[0], min(column, key=_height), max(column, key=_height), column[-1]}
        kept += [point for point in column if point in extremes][: len(column)]
    return kept


def _height(point: tuple[float, float]) -> float:
    return point[1]


def alone(inner: str, width: float, height: float, label: str) -> str:
    """SVG as a file: with its style sheet, on a ground of its own."""
    style = (files("disback_plugin.lab.report") / "chart.css").read_text(encoding="utf-8")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{1.5 * width:g}" height="{1.5 * height:g}" role="img">'
        f"<title>{escape(label)}</title><style>{style}</style>"
        f'<rect class="ground" width="{width:g}" height="{height:g}"/>{inner}</svg>\n'
    )
