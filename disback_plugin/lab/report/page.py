"""The page: one file with its style, script, charts and pictures, that loads nothing."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from disback_plugin.lab.report import formatting
from disback_plugin.lab.report.csv_tables import csv_text
from disback_plugin.lab.report.curves import AXIS, style_of
from disback_plugin.lab.report.plots import Panel, bars_reach, interval_bar, panels_of
from disback_plugin.lab.report.shown import Shown, differing_settings
from disback_plugin.lab.report.tables import difference_rows, final_rows
from disback_plugin.lab.report.verdict import PRELIMINARY, headlines, preliminary
from disback_plugin.lab.report.words import ARMS

LARGEST_DOWNLOAD = 250_000  # bytes of a table that the page itself offers; shared by experiments


def render(shown: Sequence[Shown]) -> str:
    """HTML of one experiment, or of several side by side."""
    jinja = Environment(
        loader=PackageLoader("disback_plugin.lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(
        number=formatting.number,
        ratio=formatting.ratio,
        reached=formatting.reached,
        reach_seeds=formatting.reach_seeds,
        style=style_of,
        finals=final_rows,
        differences=difference_rows,
        headlines=headlines,
        preliminary=preliminary,
        download=partial(download, most=LARGEST_DOWNLOAD // len(shown)),
        decisive=_decisive,
    )
    primaries = [one.summary["primary"] for one in shown]
    panels = panels_of({one.label: one.plots for one in shown}, primaries)
    return jinja.get_template("page.html").render(
        title=" and ".join(one.label for one in shown),
        shown=shown,
        several=len(shown) > 1,
        panels=panels,
        charts=_charts,
        bar=lambda entry, speedups: Markup(interval_bar(entry, bars_reach(speedups))),
        arms=dict.fromkeys(run.arm for one in shown for run in one.runs),
        meanings=ARMS,
        axis=AXIS,
        early=any(plot.early("passes") for panel in panels for plot in panel.plots.values()),
        differing=differing_settings(shown),
        words=dict(pair for one in shown for pair in one.words),
        preliminary_note=PRELIMINARY,
        seconds_note=formatting.SECONDS_NOTE,
        intervals=formatting.INTERVALS,
        css=_file("chart.css") + _file("page.css"),
        js=_file("page.js"),
    )


def download(rows: Sequence[Sequence[Any]], most: int) -> str | None:
    """A table as an address that holds it; None where that takes more than `most` bytes."""
    text = csv_text([list(row) for row in rows])
    address = "data:text/csv;charset=utf-8," + quote(text, safe=",-_.~ ").replace(" ", "%20")
    return address if len(address) <= most else None


def _decisive(summary: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The speed-ups that the headlines tell, by control."""
    speeds = {control: entry["speed"] for control, entry in summary["comparisons"].items()}
    return {control: [speed] for control, speed in speeds.items() if speed is not None}


def _charts(panel: Panel, label: str) -> Mapping[str, Markup]:
    return {
        "svg": Markup("\n".join(panel.variants(label))),
        "data": Markup(panel.data(label)),
    }


def _file(name: str) -> Markup:
    """Ours, and as it is: neither holds an end tag."""
    return Markup((files("disback_plugin.lab.report") / name).read_text(encoding="utf-8"))
