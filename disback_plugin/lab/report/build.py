"""From run folders to summary.json, figures and report.html, a self-contained page."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from disback_plugin.files import naming, write_text
from disback_plugin.lab.report.csv_tables import write_csv
from disback_plugin.lab.report.gallery import reference_figure, training_figure
from disback_plugin.lab.report.page import render
from disback_plugin.lab.report.plots import figures_of
from disback_plugin.lab.report.shown import Shown, labels_of, read_shown
from disback_plugin.lab.results.run_summary import FORMAT_VERSION
from disback_plugin.lab.results.runs import read_side_by_side


def build_report(out_dirs: Sequence[Path], out: Path, csv: Path | None = None) -> dict[str, Any]:
    """Write out/summary.json, out/figures/*.svg and out/report.html; returns the summary.

    The summary is that of the runs, with `reference` (the teacher's own metric values) and
    `verdict`; of experiments side by side it has theirs as `experiments`, by label. csv: a folder
    for the numbers as tables. Raises RunError where a folder holds no run or a file in it is
    damaged.
    """
    experiments = read_side_by_side(out_dirs)
    shown = [
        read_shown(label, runs, beside=len(experiments) - 1)
        for label, runs in zip(labels_of(experiments), experiments, strict=True)
    ]
    summaries = {one.label: dict(one.summary) for one in shown}
    summary: dict[str, Any] = {"format_version": FORMAT_VERSION, "experiments": summaries}
    if len(shown) == 1:
        (summary,) = summaries.values()
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    for file, content in [
        *_figures(shown, out / "figures"),
        (out / "summary.json", text),
        (out / "report.html", render(shown)),
    ]:
        with naming(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, content)
    if csv is not None:
        write_csv(csv, {one.label: one.tables for one in shown})
    return summary


def _figures(shown: Sequence[Shown], folder: Path) -> Iterator[tuple[Path, str]]:
    """Of several experiments each in a folder of its own."""
    for one in shown:
        own = _within(folder, one.label) if len(shown) > 1 else folder
        for name, content in figures_of(one.plots).items():
            yield _within(own, f"{name}.svg"), content
        if one.gallery is not None:
            for name, draw in (("reference", reference_figure), ("training", training_figure)):
                if (figure := draw(one.gallery)) is not None:
                    yield own / f"samples_{name}.svg", figure


def _within(folder: Path, name: str) -> Path:
    """Never elsewhere: names of experiments and metrics are what a stranger's run says."""
    return folder.joinpath(*(part for part in Path(name).parts if part not in ("..", "/")))
