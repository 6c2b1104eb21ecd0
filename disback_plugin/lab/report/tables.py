"""The summary as plain text for a terminal; the table of a path's nodes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.lab.report.formatting import (
    SECONDS_NOTE,
    interval,
    mean_std,
    number,
    ratio,
    reach_seeds,
    reached,
    size,
)
from disback_plugin.lab.report.verdict import verdict
from disback_plugin.lab.report.words import words
from disback_plugin.sealed import damage_of, read_json

NODES = ["node", "recording steps", "size", "distance to teacher", "in bf16", "survives bf16"]


def format_table(summary: Mapping[str, Any]) -> str:
    """Finals, steps to thresholds, speed-ups, notes, the verdict and its words, in columns.

    summary: as `build_report` returns it; experiments side by side come one after the other.
    """
    if "experiments" in summary:
        return "\n\n".join(
            f"== {label}\n\n{format_table(own)}" for label, own in summary["experiments"].items()
        )
    blocks = [
        f"{summary['experiment']}: finals at {number(summary['budget'])} steps, recording counted",
        aligned(final_rows(summary)),
    ]
    if summary["comparisons"]:
        blocks += [
            f"final {summary['primary']}, disback minus control, paired by seed",
            aligned(difference_rows(summary)),
        ]
    if summary["thresholds"]:
        blocks += [f"steps to {summary['primary']}, per seed", aligned(_threshold_rows(summary))]
    if summary["thresholds"] and summary["speedups"]:
        blocks += [
            "speed-up of disback in network passes (95 % interval)",
            aligned(_speedup_rows(summary)),
        ]
    blocks += [f"note: {note}" for note in [*summary["notes"], SECONDS_NOTE]]
    meanings = "\n".join(f"{word}: {meaning}" for word, meaning in words(summary))
    return "\n\n".join([*blocks, verdict(summary), meanings])


def final_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Header, one row an arm, and the teacher's values where they are known."""
    metrics = list(next(iter(summary["arms"].values()))["finals"]) if summary["arms"] else []
    rows = [["arm", "seeds", *metrics, f"best {summary['primary']}", "seconds"]]
    for arm, numbers in summary["arms"].items():
        finals = [mean_std(numbers["finals"][m]) if m in numbers["finals"] else "" for m in metrics]
        best, seconds = numbers["bests"][summary["primary"]], numbers["seconds"]
        rows.append(
            [arm, str(len(numbers["seeds"])), *finals, mean_std(best), number(seconds["mean"])]
        )
    reference = summary.get("reference", {})
    if reference and metrics:
        values = [number(reference[metric]) if metric in reference else "" for metric in metrics]
        rows.append(["teacher, many steps", "", *values, "", ""])
    return rows


def difference_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Header and one row a control: mean paired difference of the finals, interval, outcome."""
    rows = [["over", "mean difference", "95 % interval", "seeds", "outcome"]]
    for control, entry in summary["comparisons"].items():
        final = entry["final"]
        difference = final["difference"] or {"estimate": None, "low": None, "high": None}
        width = interval(difference["low"], difference["high"]) if final["difference"] else ""
        seeds, outcome = str(final["num_seeds"]), final["outcome"].replace("unknown", "undecided")
        rows.append([control, number(difference["estimate"]), width, seeds, outcome])
    return rows


def _threshold_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    arms = summary["arms"]
    rows = [["threshold", *arms]]
    for index, threshold in enumerate(summary["thresholds"]):
        entries = [numbers["thresholds"][index] for numbers in arms.values()]
        cells = [f"{reach_seeds(entry, 'steps')} ({reached(entry)})" for entry in entries]
        rows.append([number(threshold), *cells])
    return rows


def _speedup_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    speedups = summary["speedups"]
    rows = [["threshold", *(f"over {control}" for control in speedups)]]
    for index, threshold in enumerate(summary["thresholds"]):
        entries = [entries[index] for entries in speedups.values()]
        rows.append(
            [number(threshold), *(ratio(entry["passes"], entry["of"]) for entry in entries)]
        )
    return rows


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, a line under the header."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def node_rows(path_folder: Path) -> list[list[str]]:
    """Header and one row a node, the teacher (node 0) among them if listed; empty without path."""
    nodes = _nodes(path_folder)
    return [NODES, *(_node_row(node) for node in nodes)] if nodes is not None else []


def node_cells(path_folder: Path) -> list[list[Any]]:
    """Node, step, bytes and distances (as stored, as bf16) of each node, as numbers."""
    names = ("index", "step", "bytes", "distance", "bf16_distance")
    return [[node.get(name) for name in names] for node in _nodes(path_folder) or ()]


def _nodes(path_folder: Path) -> list[dict[str, Any]] | None:
    file, advice = path_folder / "path.json", f"look at it: `disback path verify {path_folder}`"
    if not os.path.lexists(file):
        return None
    manifest = read_json(file, RunError, advice)
    with damage_of(file, RunError, advice):
        nodes = list(manifest["nodes"])
        for node in nodes:
            _node_row(node)
        return nodes


def _node_row(node: dict[str, Any]) -> list[str]:
    distances = [node.get("distance"), node.get("bf16_distance")]
    told = ["" if value is None else number(value) for value in distances]
    survives = _survives(node.get("bf16_survives"))
    return [str(node["index"]), f"{node['step']:,}", size(node["bytes"]), *told, survives]


def _survives(value: bool | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.0%}"
