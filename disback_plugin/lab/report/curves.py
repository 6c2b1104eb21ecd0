"""Curves over seeds: an arm's middle and spread, and charts of them over passes, steps or time."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Literal

from disback_plugin.lab.report.chart import Chart, Line, Segment
from disback_plugin.lab.report.formatting import number
from disback_plugin.lab.report.scales import Scale, around
from disback_plugin.lab.report.walk import Answering, walk_of
from disback_plugin.lab.results.curves import Curve, CurvePoint, at_shared_steps, higher_is_better
from disback_plugin.lab.results.runs import Mark, Run

Unit = Literal["passes", "steps", "seconds"]
AXIS: dict[Unit, str] = {
    "passes": "network passes a sample",
    "steps": "training steps",
    "seconds": "training seconds",
}
EARLY = 0.2  # a walk that ends within this share of the axis is read on one with a wide start
MOST_VALUES = 250  # an arm, that a reader is shown by pointing at a chart
Values = Sequence[CurvePoint]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """seeds: the points of each run, and whether it is complete. low, high: beside `middle`."""

    name: str
    style: str
    middle: Values
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    seeds: Sequence[tuple[Values, bool]] = ()


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One quantity of all arms, to be drawn over any unit; `name` is that of its file.

    within: values that the axis holds in any case.
    """

    name: str
    title: str
    caption: str
    arms: Sequence[Arm]
    log: bool
    thresholds: Sequence[float] = ()
    reference: tuple[float, str] | None = None
    walk: Sequence[Answering] = ()
    within: Sequence[float] = ()

    @property
    def values(self) -> list[float]:
        """All that is drawn; the reference where it is not far off, thresholds where inside."""
        own = [point.value for arm in self.arms for points, _ in arm.seeds for point in points]
        own += [point.value for arm in self.arms for point in arm.middle]
        own += [value for arm in self.arms for value in (*arm.low, *arm.high)]
        own += self.within
        if self.reference is None or (self.log and self.reference[0] <= 0):
            return own
        more = [*own, self.reference[0]]
        return more if _extent(more, self.log) <= 1.4 * _extent(own, self.log) else own

    def end(self, unit: Unit) -> float:
        """How far the curves go."""
        return max(self._places(unit), default=0.0) or 1.0

    def early(self, unit: Unit) -> bool:
        """Whether the walk is over so soon that a linear axis would not show it."""
        last = x_of(self.walk[-1].begin, unit) if self.walk else 0.0
        return 0 < last < EARLY * self.end(unit)

    def first(self, unit: Unit) -> float:
        """The first place after the start where anything is."""
        places = [*self._places(unit), *(x_of(one.begin, unit) for one in self.walk)]
        return min((place for place in places if place > 0), default=1.0)

    def chart(
        self, unit: Unit, early: bool = False, x: Scale | None = None, y: Scale | None = None
    ) -> Chart:
        """Drawn over `unit`; `x` and `y` where several charts share their axes."""
        x = x_scale([self], unit, early) if x is None else x
        y = around(self.values, log=self.log) if y is None else y
        return Chart(
            label=f"{self.title} over {AXIS[unit]}",
            x=x,
            y=y,
            x_label=AXIS[unit],
            lines=[line for arm in self.arms for line in _lines(arm, unit)],
            levels={threshold: number(threshold) for threshold in self.thresholds},
            reference=self.reference,
            ribbon=self._ribbon(unit, x.high),
            names={arm.style: arm.name for arm in self.arms},
        )

    def _places(self, unit: Unit) -> list[float]:
        drawn = [points for arm in self.arms for points in (arm.middle, *(s[0] for s in arm.seeds))]
        return [x_of(point, unit) for points in drawn for point in points]

    def _ribbon(self, unit: Unit, end: float) -> list[Segment]:
        begins = [x_of(one.begin, unit) for one in self.walk]
        ends = [*begins[1:], end][: len(begins)]
        return [
            Segment(
                name=one.name, short=one.short, style=one.style,
                begin=begin, end=until, strength=one.strength,
            )
            for one, begin, until in zip(self.walk, begins, ends, strict=True)
        ]  # fmt: skip

    def data(self) -> dict[str, Any]:
        """The values for whoever points at a chart, in every unit, to four digits."""
        return {
            "title": self.title,
            "arms": [_data(arm) for arm in self.arms],
            "walk": [{"name": one.name, **_costs([one.begin])} for one in self.walk],
        }


def x_scale(plots: Sequence[Plot], unit: Unit, early: bool) -> Scale:
    """One axis for all of them, even or with a wide start."""
    end = max(plot.end(unit) for plot in plots)
    if not early:
        return Scale(kind="linear", low=0.0, high=end)
    first = min(plot.first(unit) for plot in plots)
    return Scale(kind="early", low=0.0, high=end, knee=max(first / 2, end / 4000))


def metric_plot(
    runs: Sequence[Run],
    metric: str,
    *,
    title: str,
    caption: str = "",
    name: str = "",
    thresholds: Sequence[float] = (),
    reference: tuple[float, str] | None = None,
    shared: bool = True,
    seeds: bool = True,
) -> Plot | None:
    """Medians over an arm's complete runs from worst to best; None where there is nothing to draw.

    shared: at the steps that all of the arm's seeds have; otherwise at every step. seeds: each a
    thin line as well. The axis of a distance is logarithmic.
    """
    shown = [run for run in runs if run.curve(metric).finite.points]
    if not shown:
        return None
    names = dict.fromkeys(run.arm for run in shown)
    found = [
        arm_of([run for run in shown if run.arm == arm], metric, shared, seeds) for arm in names
    ]
    arms = [arm for arm in found if arm.middle or arm.seeds]
    if not arms:
        return None
    least = min(p.value for run in shown for p in run.curve(metric).finite.points)
    known = reference is not None and math.isfinite(reference[0])
    return Plot(
        name=name or metric,
        title=title,
        caption=caption,
        arms=arms,
        log=not higher_is_better(metric) and least > 0,
        thresholds=thresholds,
        reference=reference if known else None,
        walk=walk_of(runs),
    )


def arm_of(runs: Sequence[Run], metric: str, shared: bool, seeds: bool) -> Arm:
    """Runs that stopped early, and steps which one seed lacks, would make the median jump."""
    whole = [run for run in runs if run.complete] or runs
    curves = [run.curve(metric).finite for run in whole]
    groups = at_shared_steps(curves) if shared else at_any_step(curves)
    return Arm(
        name=runs[0].arm,
        style=style_of(runs[0].arm),
        middle=[middle(points) for points in groups],
        low=[min(point.value for point in points) for points in groups],
        high=[max(point.value for point in points) for points in groups],
        seeds=[(run.curve(metric).finite.points, run.complete) for run in runs] if seeds else (),
    )


def middle(points: Values) -> CurvePoint:
    """Of one step in several seeds: median value, mean cost."""
    return CurvePoint(
        points[0].step,
        fmean(point.seconds for point in points),
        fmean(point.passes for point in points),
        median(point.value for point in points),
    )


def at_any_step(curves: Iterable[Curve]) -> list[list[CurvePoint]]:
    """The points at each step that any curve has."""
    at_step: dict[int, list[CurvePoint]] = defaultdict(list)
    for curve in curves:
        for point in curve.points:
            at_step[point.step].append(point)
    return [at_step[step] for step in sorted(at_step)]


def style_of(arm: str) -> str:
    """CSS class; one without a colour of its own, as of an earlier version, is drawn grey."""
    return "arm-" + "".join(letter if letter.isalnum() else "-" for letter in arm)


def x_of(point: CurvePoint | Mark, unit: Unit) -> float:
    """How far along an axis."""
    return {"passes": point.passes, "steps": point.step, "seconds": point.seconds}[unit]


def _lines(arm: Arm, unit: Unit) -> list[Line]:
    lines = []
    for points, complete in arm.seeds:
        weight = "seed" if complete else "seed open"
        own = [(x_of(point, unit), point.value) for point in points]
        lines.append(Line(style=arm.style, points=own, weight=weight))
    x = [x_of(point, unit) for point in arm.middle]
    band = None
    if list(arm.low) != list(arm.high):
        band = list(zip(x, arm.high, strict=True)), list(zip(x, arm.low, strict=True))
    values = [(x_of(point, unit), point.value) for point in arm.middle]
    alone = [True] if len(values) == 1 else []  # of one point a line shows nothing
    return [*lines, Line(style=arm.style, points=values, band=band, markers=alone)]


def _extent(values: Sequence[float], log: bool) -> float:
    low, high = min(values), max(values)
    return math.log(high / low) if log else high - low


def _data(arm: Arm) -> dict[str, Any]:
    stride = math.ceil(len(arm.middle) / MOST_VALUES) or 1
    rows = sorted({*range(0, len(arm.middle), stride), *range(len(arm.middle))[-1:]})
    record = {"name": arm.name, "style": arm.style, **_costs([arm.middle[row] for row in rows])}
    record["value"] = _short(arm.middle[row].value for row in rows)
    if list(arm.low) != list(arm.high):
        record["low"] = _short(arm.low[row] for row in rows)
        record["high"] = _short(arm.high[row] for row in rows)
    return record


def _costs(points: Sequence[CurvePoint | Mark]) -> Mapping[str, list[float]]:
    return {unit: _short(x_of(point, unit) for point in points) for unit in AXIS}


def _short(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
