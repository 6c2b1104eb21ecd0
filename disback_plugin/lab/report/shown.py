"""What a report shows of one experiment, read from its runs' folders."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.report.csv_tables import Rows, csv_tables
from disback_plugin.lab.report.gallery import BYTES, Gallery, gallery_of
from disback_plugin.lab.report.plots import Drawn, plots_of
from disback_plugin.lab.report.tables import node_cells, node_rows
from disback_plugin.lab.report.verdict import verdict
from disback_plugin.lab.report.words import words
from disback_plugin.lab.results.run_file import REFERENCE, read_reference
from disback_plugin.lab.results.run_summary import summarise_runs
from disback_plugin.lab.results.runs import Run
from disback_plugin.plain_yaml import parse_yaml
from disback_plugin.sealed import damage_of, read_sealed

_WITHOUT = "restore or delete it, the report does without"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """summary: of `summarise_runs`, with `reference` (the teacher's own values) and `verdict`.

    paths: rows of each run's nodes. configs: resolved, by folder. tables: for other programs.
    """

    label: str
    runs: Sequence[Run]
    summary: Mapping[str, Any]
    words: Sequence[tuple[str, str]]
    plots: Drawn
    gallery: Gallery | None
    paths: Mapping[str, Sequence[Sequence[str]]]
    environment: Mapping[str, str]
    configs: Mapping[str, str]
    tables: Mapping[str, Rows]


def read_shown(label: str, runs: Sequence[Run], beside: int) -> Shown:
    """Everything there is to show, beside so many other experiments: less of each then."""
    summary = summarise_runs(runs)
    summary["reference"] = _reference(runs)
    summary["verdict"] = verdict(summary)
    folders = list(dict.fromkeys(run.out for run in runs))
    environment = _environment(folders[0]) | {"seeds": _seeds(summary)}
    nodes = [[run.arm, run.seed, *cells] for run in runs for cells in node_cells(_path(run))]
    return Shown(
        label=label,
        runs=runs,
        summary=summary,
        words=words(summary),
        plots=plots_of(runs, summary, seeds=not beside),
        gallery=gallery_of(runs, BYTES // (beside + 1)),
        paths={run.name: rows for run in runs if (rows := node_rows(_path(run)))},
        environment=flat(environment),
        configs={
            str(folder): _text(folder / "config.yaml")
            for folder in folders
            if (folder / "config.yaml").exists()
        },
        tables=csv_tables(summary, runs, nodes),
    )


def labels_of(experiments: Sequence[Sequence[Run]]) -> list[str]:
    """Names of experiments; where two are called alike, what tells their folders apart."""
    folders = [runs[0].out for runs in experiments]
    for names in ([runs[0].experiment for runs in experiments], [one.name for one in folders]):
        if len(set(names)) == len(names):
            return names
    common = os.path.commonpath([folder.parent for folder in folders])
    return [folder.relative_to(common).as_posix() for folder in folders]


def differing_settings(shown: Sequence[Shown]) -> list[list[str]]:
    """Header, and a row for each setting that is not the same in all experiments' configs."""
    settings = [_settings(one.configs) for one in shown]
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [[name, *(one.get(name, "") for one in settings)] for name in names]
    return [["setting", *(one.label for one in shown)], *(r for r in rows if len(set(r[1:])) > 1)]


def flat(record: Mapping[str, Any], prefix: str = "", joint: str = " ") -> dict[str, str]:
    """Nested settings as one level: {"versions": {"torch": 2}} -> {"versions torch": "2"}."""
    entries: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            entries.update(flat(value, f"{prefix}{key}{joint}", joint))
        elif value is not None:
            name = f"{prefix}{key}"
            entries[name.replace("_", " ") if joint == " " else name] = str(value)
    return entries


def _settings(configs: Mapping[str, str]) -> dict[str, str]:
    """Of the first folder, as `disback run` takes them: `distill.student_lr`."""
    for folder, text in configs.items():
        try:
            settings = parse_yaml(text, f"{folder}/config.yaml")
        except ConfigError as error:
            raise RunError(f"{error}; {_WITHOUT}") from None
        return flat(settings, joint=".") if isinstance(settings, Mapping) else {}
    return {}


def _path(run: Run) -> Path:
    return run.folder / "path"


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
