"""The table of a degradation path's nodes, read from path.json alone."""

import os
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.lab.report.formatting import number, size
from disback_plugin.sealed import damage_of, read_json

HEADER = ["node", "recording steps", "size", "distance to teacher", "in bf16", "survives bf16"]


def node_rows(path_folder: Path) -> list[list[str]]:
    """Header and one row a node, the teacher (node 0) among them if listed; empty without path."""
    file, advice = path_folder / "path.json", f"look at it: `disback path verify {path_folder}`"
    if not os.path.lexists(file):
        return []
    manifest = read_json(file, RunError, advice)
    with damage_of(file, RunError, advice):
        return [HEADER, *(_row(node) for node in manifest["nodes"])]


def _row(node: dict[str, Any]) -> list[str]:
    return [
        str(node["index"]),
        f"{node['step']:,}",
        size(node["bytes"]),
        _distance(node.get("distance")),
        _distance(node.get("bf16_distance")),
        _survives(node.get("bf16_survives")),
    ]


def _distance(value: float | None) -> str:
    return "" if value is None else number(value)


def _survives(value: bool | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.0%}"
