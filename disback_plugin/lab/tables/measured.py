"""Which results fill which cells: of real runs, or of smoke tests, never of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.lab.results.evaluations import AGAIN, Evaluation, find_results
from disback_plugin.lab.tables.cells import CELLS
from disback_plugin.sealed import damage_of


@dataclass(frozen=True)
class Filled:
    """A cell's text, and the file that it comes from."""

    text: str
    file: Path


def fill_cells(folder: Path | None, smoke: bool) -> dict[str, Filled]:
    """Cells by name, of the results in `folder`; RunError where one cell has two results."""
    found: dict[str, Filled] = {}
    for file, result in find_results(folder) if folder else ():
        with damage_of(file, RunError, AGAIN):
            name, text = _cell_of(result, smoke)
        if name is None or text is None:
            continue
        if name in found:
            raise RunError(
                f"cell {name} has two results, {found[name].file} and {file}: move one away"
            )
        found[name] = Filled(f"{text} (SMOKE)" if smoke else text, file)
    return found


def _cell_of(result: Evaluation | Mapping[str, Any], smoke: bool) -> tuple[str | None, str | None]:
    if isinstance(result, Evaluation):
        name, is_smoke, text = result.cell, result.smoke, _number(result)
    else:
        name, is_smoke, text = result["cell"], result["smoke"], _speedup(result)
    if name not in CELLS or is_smoke != smoke:
        return None, None
    return name, text


def _number(result: Evaluation) -> str | None:
    """The FID; of a smoke test, which may have other features, its first number."""
    value = result.numbers.get("FID")
    if value is None and result.smoke:
        value = next(iter(result.numbers.values()))
    return None if value is None else f"{value:.2f}"


def _speedup(result: Mapping[str, Any]) -> str | None:
    """To the lowest threshold that all runs reached."""
    if result["metric"] != "FID" and not result["smoke"]:
        return None
    rows = [row for row in result["thresholds"] if row["speedup"] is not None]
    if not rows:
        return None
    last = min(rows, key=lambda row: row["threshold"])
    seeds = f", {last['num_seeds']} seeds" if last["num_seeds"] > 1 else ""
    return f"{last['speedup']['steps']:.2f}x (to {last['threshold']:.3g}{seeds})"
