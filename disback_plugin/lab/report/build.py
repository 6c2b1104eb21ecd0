"""From run folders to summary.json, figures and report.html, a self-contained page."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from disback_plugin.errors import RunError
from disback_plugin.files import naming, write_text
from disback_plugin.lab.report import formatting
from disback_plugin.lab.report.axes import save
from disback_plugin.lab.report.curves import Unit, convergence_figure
from disback_plugin.lab.report.diagnostics import (
    GAP_CAPTION,
    HEALTH_CAPTION,
    MISMATCH_CAPTION,
    gap_figure,
    health_figure,
    mismatch_figure,
)
from disback_plugin.lab.report.samples import reference_figure, reference_samples, training_figure
from disback_plugin.lab.report.tables import difference_rows, final_rows, node_rows
from disback_plugin.lab.report.verdict import verdict
from disback_plugin.lab.results.run_file import REFERENCE, read_reference
from disback_plugin.lab.results.run_summary import arm_order, summarise_runs
from disback_plugin.lab.results.runs import Run, read_runs
from disback_plugin.sealed import damage_of, read_sealed

UNITS: tuple[Unit, ...] = ("passes", "seconds")
_WITHOUT = "restore or delete it, the report does without"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG on disk with what it shows; `main` pictures are open, the others folded away.

    `width` in CSS pixels is what its fonts are made for; a screen that is narrower scrolls a `wide`
    picture and shrinks any other.
    """

    file: Path
    section: str
    caption: str
    width: int
    main: bool = True

    @property
    def wide(self) -> bool:
        return self.width > 700

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.file.read_bytes()).decode("ascii")


def build_report(out_dirs: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write out/summary.json, out/figures/*.png and out/report.html; returns the summary.

    The summary is that of the runs, with `reference` (the teacher's own metric values) and
    `verdict`. Raises RunError where a folder holds no run or a file in it is damaged.
    """
    runs = read_runs(out_dirs)
    summary = summarise_runs(runs)
    summary["reference"] = _reference(runs)
    summary["verdict"] = verdict(summary)
    paths = {run.name: rows for run in runs if (rows := node_rows(run.folder / "path"))}
    out.mkdir(parents=True, exist_ok=True)
    folders = list(dict.fromkeys(run.out for run in runs))
    page = _render(
        summary,
        _draw(runs, summary, out / "figures"),
        paths=paths,
        environment=flat(_environment(folders[0]) | {"seeds": _seeds(summary)}),
        configs=[
            (folder.name, _text(folder / "config.yaml"))
            for folder in folders
            if (folder / "config.yaml").exists()
        ],
    )
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    for name, content in (("summary.json", text), ("report.html", page)):
        with naming(out / name):
            write_text(out / name, content)
    return summary


def _draw(runs: Sequence[Run], summary: Mapping[str, Any], folder: Path) -> list[Picture]:
    return [
        *_draw_curves(runs, summary, folder),
        *_saved(
            folder,
            "convergence",
            mismatch=(mismatch_figure(runs), MISMATCH_CAPTION),
            score_gap=(gap_figure(runs), GAP_CAPTION),
            health=(health_figure(runs), HEALTH_CAPTION),
        ),
        *_draw_samples(runs, folder),
    ]


def _draw_curves(runs: Sequence[Run], summary: Mapping[str, Any], folder: Path) -> list[Picture]:
    primary = summary["primary"]
    metrics = dict.fromkeys(metric for run in runs for metric in run.curves)
    pictures = []
    for metric in sorted(metrics, key=lambda name: name != primary):
        main = metric == primary
        thresholds = summary["thresholds"] if main else ()
        reference = summary["reference"].get(metric)
        for unit in UNITS:
            caption = f"{metric} over {unit}: median over seeds, band from worst to best seed."
            if unit == "seconds":
                caption += f" {formatting.SECONDS_NOTE}"
            if main and unit == "passes":
                caption += " Vertical lines: the network that answers as real score from there on."
            figure = convergence_figure(runs, metric, unit, thresholds, reference)
            drawn = {f"{metric}_{unit}": (figure, caption)}
            pictures += _saved(folder, "convergence", main=main, **drawn)
    return pictures


def _draw_samples(runs: Sequence[Run], folder: Path) -> list[Picture]:
    reference = reference_samples(runs[0].out)
    shown = _one_run_an_arm(runs)
    data = reference.get("data")
    over_data = " Grey points are the data." if data is not None and data.ndim == 2 else ""
    return _saved(
        folder,
        "samples",
        samples_reference=(
            reference_figure(reference),
            f"{'The' if data is None else 'Real data and the'} teacher's samples.",
        ),
        samples_training=(
            training_figure(shown, data),
            f"Samples over training, seed {shown[0].seed}.{over_data}",
        ),
    )


def _saved(
    folder: Path, section: str, main: bool = True, **figures: tuple[Figure | None, str]
) -> list[Picture]:
    """Each figure under its name, with its caption; without those that show nothing."""
    pictures = []
    for name, (figure, caption) in figures.items():
        if figure is not None:
            file = folder / f"{name}.png"
            width = save(figure, file)
            pictures.append(
                Picture(file=file, section=section, caption=caption, width=width, main=main)
            )
    return pictures


def _one_run_an_arm(runs: Sequence[Run]) -> list[Run]:
    """One run an arm: the seed that most arms have, the smallest of these."""
    seeds = [run.seed for run in runs]
    seed = min(seeds, key=lambda one: (-seeds.count(one), one))
    chosen = {run.arm: run for run in runs if run.seed == seed}
    return [chosen[arm] for arm in arm_order(set(chosen))]


def _reference(runs: Sequence[Run]) -> dict[str, float]:
    """The teacher's own values; with several experiment folders those of the first."""
    folder = runs[0].out / "teacher"
    return read_reference(folder)[0] if (folder / REFERENCE).exists() else {}


def _environment(folder: Path) -> dict[str, Any]:
    """What experiment.json says; empty where it is absent, as in a run copied alone."""
    file = folder / "experiment.json"
    return read_sealed(file, RunError, _WITHOUT) if file.exists() else {}


def _text(file: Path) -> str:
    with damage_of(file, RunError, _WITHOUT):
        return file.read_text(encoding="utf-8")


def _seeds(summary: Mapping[str, Any]) -> str:
    arms = {arm: ", ".join(map(str, numbers["seeds"])) for arm, numbers in summary["arms"].items()}
    return "; ".join(f"{arm}: {seeds}" for arm, seeds in arms.items())


def _render(summary: Mapping[str, Any], pictures: Sequence[Picture], **more: Any) -> str:
    """HTML with inline style and pictures: no script, no network."""
    jinja = Environment(
        loader=PackageLoader("disback_plugin.lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(
        number=formatting.number,
        mean_std=formatting.mean_std,
        ratio=formatting.ratio,
        reached=formatting.reached,
        reach_seeds=formatting.reach_seeds,
    )
    return jinja.get_template("page.html").render(
        summary=summary,
        pictures=pictures,
        finals=final_rows(summary),
        differences=difference_rows(summary),
        seconds_note=formatting.SECONDS_NOTE,
        intervals=formatting.INTERVALS,
        **more,
    )


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level: {"versions": {"torch": 2}} -> {"versions torch": "2"}."""
    entries: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            entries.update(flat(value, f"{prefix}{key} "))
        elif value is not None:
            entries[f"{prefix}{key}".replace("_", " ")] = str(value)
    return entries
