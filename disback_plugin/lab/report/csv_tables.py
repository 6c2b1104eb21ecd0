"""All numbers of a report as tables for other programs: exact, one number a cell, long form."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from disback_plugin.files import naming, write_text
from disback_plugin.lab.results.runs import Run

Rows = list[list[Any]]  # the header first; None is an empty cell: not finite, or never reached

FORMULA = frozenset("=+-@\t\r")  # what a spreadsheet's formulas begin with


def csv_tables(summary: Mapping[str, Any], runs: Sequence[Run], nodes: Rows) -> dict[str, Rows]:
    """Tables by name: finals, thresholds, speedups, differences, runs, nodes, curves.

    nodes: rows of the runs' paths, as `node_cells` gives them.
    """
    return {
        "finals": [["metric", "arm", "seed", "final", "best"], *_finals(summary)],
        "thresholds": [
            ["metric", "threshold", "arm", "seed", "steps", "seconds", "passes"],
            *_thresholds(summary),
        ],
        "speedups": [
            ["metric", "threshold", "over", "cost", "ratio", "low", "high", "pairs", "seeds"],
            *_speedups(summary),
        ],
        "differences": [
            ["metric", "over", "difference", "low", "high", "seeds", "outcome"],
            *_differences(summary),
        ],
        "runs": [
            ["arm", "seed", "complete", "counted", "step", "num_steps", "recording_steps",
             "node_switches", "seconds", "passes"],
            *_runs(summary),
        ],
        "nodes": [["arm", "seed", "node", "step", "bytes", "distance", "bf16_distance"], *nodes],
        "curves": [["metric", "arm", "seed", "step", "seconds", "passes", "value"], *_curves(runs)],
    }  # fmt: skip


def write_csv(folder: Path, experiments: Mapping[str, Mapping[str, Rows]]) -> list[Path]:
    """FOLDER/<table>.csv, each with the rows of all experiments; a column says whose they are."""
    files = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in next(iter(experiments.values())):
        header = ["experiment", *next(iter(experiments.values()))[name][0]]
        rows = [[label, *row] for label, tables in experiments.items() for row in tables[name][1:]]
        file = folder / f"{name}.csv"
        with naming(file):
            write_text(file, csv_text([header, *rows]))
        files.append(file)
    return files


def csv_text(rows: Rows) -> str:
    """Comma-separated values, lines end with a line feed.

    A name that a spreadsheet would compute (a stranger's run can have any) is quoted as its text.
    """
    out = StringIO()
    csv.writer(out, lineterminator="\n").writerows([*map(_inert, row)] for row in rows)
    return out.getvalue()


def _inert(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in FORMULA else cell


def _finals(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    for arm, numbers in summary["arms"].items():
        for metric, entry in numbers["finals"].items():
            bests = numbers["bests"][metric]["seeds"]
            for seed, value in entry["seeds"].items():
                yield [metric, arm, seed, value, bests[seed]]


def _thresholds(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    for arm, numbers in summary["arms"].items():
        for entry in numbers["thresholds"]:
            for seed, reach in entry["seeds"].items():
                costs = [reach[cost] if reach else None for cost in ("steps", "seconds", "passes")]
                yield [summary["primary"], entry["threshold"], arm, seed, *costs]


def _speedups(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    for control, entries in summary["speedups"].items():
        for entry in entries:
            for cost in ("passes", "steps"):
                found = entry[cost]
                numbers = [found[name] for name in ("ratio", "low", "high", "pairs")]
                where = [summary["primary"], entry["threshold"], control, cost]
                yield [*where, *numbers, entry["of"]]


def _differences(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    for control, entry in summary["comparisons"].items():
        final = entry["final"]
        found = final["difference"] or {"estimate": None, "low": None, "high": None}
        numbers = [found[name] for name in ("estimate", "low", "high")]
        yield [summary["primary"], control, *numbers, final["num_seeds"], final["outcome"]]


def _runs(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    for run in summary["runs"]:
        yield [
            run[name]
            for name in ("arm", "seed", "complete", "counted", "step", "num_steps",
                         "recording_steps", "num_switches", "seconds", "passes")
        ]  # fmt: skip


def _curves(runs: Sequence[Run]) -> Iterator[list[Any]]:
    for run in runs:
        for metric, curve in run.curves.items():
            for step, seconds, passes, value in curve.points:
                finite = value if math.isfinite(value) else None
                yield [metric, run.arm, run.seed, step, seconds, passes, finite]
