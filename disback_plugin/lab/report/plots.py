"""All plots of a report, each quantity for every experiment beside the others, on equal axes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from json import dumps
from typing import Any

from disback_plugin.lab.report.curves import AXIS, Plot, Unit, metric_plot, x_scale
from disback_plugin.lab.report.diagnostics import gap_plot, health_plot, mismatch_plot
from disback_plugin.lab.report.scales import around
from disback_plugin.lab.report.words import direction, metric_meaning
from disback_plugin.lab.results.runs import Run

FILES: tuple[Unit, ...] = ("passes", "seconds")  # a metric's figures in files
Drawn = Mapping[str, Plot]  # by the name of the quantity


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity: its plot for each experiment that has it, by the experiment's label.

    main: shown at once; the others are folded away.
    """

    title: str
    caption: str
    main: bool
    plots: Mapping[str, Plot]

    def variants(self, label: str) -> Iterator[str]:
        """The charts of one experiment: every unit, linear and with a wide start."""
        y = around(
            [value for plot in self.plots.values() for value in plot.values],
            log=all(plot.log for plot in self.plots.values()),
        )
        for unit, early in product(AXIS, (False, True)):
            x = x_scale(list(self.plots.values()), unit, early)
            style = f"variant {unit} {'early' if early else 'linear'}"
            yield self.plots[label].chart(unit, early, x, y).svg(style)

    def data(self, label: str) -> str:
        """The values, for the page's script, as text of a <script> element."""
        return dumps(self.plots[label].data()).replace("<", "\\u003c")


def plots_of(runs: Sequence[Run], summary: Mapping[str, Any], seeds: bool) -> Drawn:
    """Every metric, the primary one first, then what the probe measured.

    seeds: whether each seed has a line in the plot of the primary metric.
    """
    primary = summary["primary"]
    metrics = dict.fromkeys(metric for run in runs for metric in run.curves)
    found = [
        _metric(runs, metric, summary, seeds)
        for metric in sorted(metrics, key=lambda name: name != primary)
    ]
    found += [mismatch_plot(runs), gap_plot(runs), health_plot(runs)]
    return {plot.name: plot for plot in found if plot is not None}


def panels_of(drawn: Mapping[str, Drawn], primaries: Sequence[str]) -> list[Panel]:
    """The plots of all experiments, quantity by quantity, what they are judged by first."""
    found = dict.fromkeys(name for plots in drawn.values() for name in plots)
    names = sorted(found, key=lambda name: name not in primaries)
    panels = []
    for name in names:
        own = {label: plots[name] for label, plots in drawn.items() if name in plots}
        first = next(iter(own.values()))
        main = name in primaries or name in ("mismatch", "score_gap", "health")
        panels.append(Panel(title=first.title, caption=first.caption, main=main, plots=own))
    return panels


def figures_of(drawn: Drawn) -> dict[str, str]:
    """SVG files by name, with a wide start where the walk is over early."""
    figures = {}
    for name, plot in drawn.items():
        probed = name in ("mismatch", "score_gap", "health")
        for unit in ("steps",) if probed else FILES:
            chart = plot.chart(unit, plot.early(unit))
            figures[name if probed else f"{name}_{unit}"] = chart.file()
    return figures


def interval_bar(entry: Mapping[str, Any], reach: float) -> str:
    """A ratio and its interval on a log axis from 1 / reach to reach, 1x in the middle."""
    if entry["ratio"] is None:
        return ""

    def at(ratio: float) -> float:
        share = math.log(ratio) / math.log(reach)
        return 80 + 76 * max(-1.0, min(1.0, share))

    label = escape(f"{entry['ratio']:.2f}x")
    parts = ['<path class="bar-one" d="M80 0V18"/>']
    if entry["low"] is not None:
        ends = f"M{at(entry['low']):.1f} 9H{at(entry['high']):.1f}"
        parts.append(f'<path class="bar-line" d="{ends}"/>')
    parts.append(f'<circle class="bar-dot" cx="{at(entry["ratio"]):.1f}" cy="9" r="4"/>')
    head = f'<svg class="bar" viewBox="0 0 160 18" role="img" aria-label="{label}">'
    return head + "".join(parts) + "</svg>"


def bars_reach(speedups: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    """The ratio at the end of every bar: no interval is cut short."""
    ends = [
        abs(math.log(entry["passes"][name]))
        for entries in speedups.values()
        for entry in entries
        for name in ("ratio", "low", "high")
        if entry["passes"][name] is not None
    ]
    return math.exp(max([*ends, math.log(1.5)]))


def _metric(
    runs: Sequence[Run], metric: str, summary: Mapping[str, Any], seeds: bool
) -> Plot | None:
    main = metric == summary["primary"]
    value = summary["reference"].get(metric)
    meaning = metric_meaning(metric)
    caption = f"{meaning[0].upper()}{meaning[1:]}. Median over seeds, band from worst to best seed."
    return metric_plot(
        runs,
        metric,
        title=f"{metric} ({direction(metric)})",
        caption=caption,
        thresholds=summary["thresholds"] if main else (),
        reference=None if value is None else (value, "teacher"),
        seeds=main and seeds,
    )
