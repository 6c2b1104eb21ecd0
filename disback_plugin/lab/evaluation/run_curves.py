"""A number over training, from the students that runs kept: the paper's Fig. 1 and Fig. 6."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from disback_plugin.distributed import is_main, on_main
from disback_plugin.errors import ConfigError
from disback_plugin.files import sha256, write_text
from disback_plugin.lab.evaluation.evaluate import Request
from disback_plugin.lab.evaluation.numbers import title
from disback_plugin.lab.evaluation.run_students import KeptStudent, StudentImages, kept_students
from disback_plugin.lab.evaluation.session import Settings, evaluate_samples, processes
from disback_plugin.lab.report.curves import metric_plot
from disback_plugin.lab.report.formatting import number
from disback_plugin.lab.report.tables import aligned
from disback_plugin.lab.report.words import direction
from disback_plugin.lab.results.curves import Curve, CurvePoint
from disback_plugin.lab.results.evaluations import NAME, read_evaluation, write_curves_of
from disback_plugin.lab.results.runs import Mark, Run, read_runs
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.run_folder import read_config

BASELINE, OURS = "fixed", "disback"


def evaluate_run(
    folder: Path,
    reference: Path,
    settings: Settings,
    out: Path,
    every: int | None,
    thresholds: Sequence[float] = (),
) -> str:
    """Measure the students of all runs under `folder` that are not measured yet, and draw them.

    out: a folder: a result a student, curves.json, and figures over steps, images and passes.
    thresholds: by default the baseline's last value. Returns the table, for people.
    """
    runs, request = read_runs([folder]), settings.request()
    if "FID" not in request.chosen:
        raise ConfigError("curves are drawn of fid: name it among --numbers, or leave them out")
    metric = title("FID", request.protocol, request.network)
    made: dict[Path, StudentImages] = {}
    measured = []
    for run in runs:
        if run.out not in made:
            made[run.out] = _images_of(run.out, settings, request)
        images, points = made[run.out], []
        for kept in kept_students(run, every):
            file = out / f"{run.name}.step_{kept.cost.step:06d}.{NAME}{settings.tag}.json"
            value = _measure(images, kept, reference, settings, request, file)[metric]
            points.append(kept.cost._replace(value=value))
        curve = Curve(arm=run.arm, seed=run.seed, metric=metric, points=tuple(points))
        measured.append(replace(run, curves={metric: curve}, thresholds=()))
    thresholds = tuple(thresholds) or _last_of_baseline(measured, metric)
    batch = made[runs[0].out].experiment.config.distill.batch_size
    reached = [reach_row(measured, metric, threshold) for threshold in thresholds]
    if is_main():
        _draw(measured, metric, thresholds, batch, out)
    said = {
        "protocol": settings.protocol,
        "metric": metric,
        "smoke": settings.smoke,
        "cell": settings.cell,
        "images_per_step": batch,
        "curves": [_plain(run.curve(metric)) for run in measured],
        "thresholds": reached,
    }
    on_main(lambda: write_curves_of(out / f"{NAME}curves.json", said), f"writing {out}")
    return table(measured, metric, reached, out)


def _images_of(out: Path, settings: Settings, request: Request) -> StudentImages:
    experiment, device = Experiment(read_config(out), out), processes(settings.device).device
    return StudentImages(experiment, request.protocol.balanced, device, settings.prompts)


def _measure(
    made: StudentImages,
    kept: KeptStudent,
    reference: Path,
    settings: Settings,
    request: Request,
    file: Path,
) -> Mapping[str, float]:
    config, protocol = made.experiment.config, request.protocol
    num = config.evaluation.num_samples if settings.smoke else protocol.num_images
    said = {**made.said, "student": _about(kept)}
    if file.exists():
        before = read_evaluation(file)
        made_by = (before.num_images, before.network["sha256"], before.reference["sha256"])
        same = made_by == (num, request.network.digest, sha256(reference))
        asked = {title(one, protocol, request.network) for one in request.chosen}
        if same and asked <= before.numbers.keys() and before.samples["said"] == said:
            return before.numbers
    images = replace(made.of(kept.file, num), said=said)
    file.parent.mkdir(parents=True, exist_ok=True)
    return evaluate_samples(images, reference, settings, file, request).numbers


def _about(kept: KeptStudent) -> dict[str, Any]:
    found = kept.file.stat()
    return {"file": kept.file.name, "bytes": found.st_size, "modified": found.st_mtime_ns}


def _last_of_baseline(runs: Sequence[Run], metric: str) -> tuple[float, ...]:
    """What the baseline comes to in the end, the mean over its seeds; nothing where it has none."""
    ends = [run.curve(metric).end.value for run in runs if run.arm == BASELINE]
    return (fmean(ends),) if ends else ()


def reach_row(runs: Sequence[Run], metric: str, threshold: float) -> dict[str, Any]:
    """What each run paid to get to `threshold`, and how much quicker ours was, on shared seeds."""
    reach = {run.name: run.curve(metric).reach(threshold) for run in runs}
    pairs = [
        (reach[f"{BASELINE}-seed{run.seed}"], reach[run.name])
        for run in runs
        if run.arm == OURS and f"{BASELINE}-seed{run.seed}" in reach
    ]
    arrived = [(base, ours) for base, ours in pairs if base is not None and ours is not None]
    speedup = None
    if arrived and len(arrived) == len(pairs):
        speedup = {
            unit: fmean(getattr(base, unit) for base, _ in arrived)
            / fmean(getattr(ours, unit) for _, ours in arrived)
            for unit in ("steps", "passes")
        }
    plain = {name: None if found is None else found._asdict() for name, found in reach.items()}
    return {"threshold": threshold, "reach": plain, "speedup": speedup, "num_seeds": len(pairs)}


def _draw(
    runs: Sequence[Run], metric: str, thresholds: Sequence[float], batch: int, out: Path
) -> None:
    title = f"{metric} ({direction(metric)})"
    drawn = {"steps": runs, "passes": runs}
    drawn["images"] = [_in_images(run, metric, batch) for run in runs]
    for name, own in drawn.items():
        plot = metric_plot(own, metric, title=title, thresholds=thresholds)
        if plot is None:  # no value is finite
            continue
        chart = plot.chart("passes" if name == "passes" else "steps")
        if name == "images":
            chart = replace(chart, x_label=name)
        write_text(out / f"{NAME}{name}.svg", chart.file())


def _in_images(run: Run, metric: str, batch: int) -> Run:
    """The run with images instead of steps."""

    def mark(one: Mark) -> Mark:
        return replace(one, step=one.step * batch)

    curve = run.curve(metric)
    points = tuple(point._replace(step=point.step * batch) for point in curve.points)
    recording = run.recording and (mark(run.recording[0]), mark(run.recording[1]))
    return replace(
        run,
        curves={metric: replace(curve, points=points)},
        switches=tuple(map(mark, run.switches)),
        recording=recording,
    )


def _plain(curve: Curve) -> dict[str, Any]:
    points = [CurvePoint(*point)._asdict() for point in curve.points]
    return {"arm": curve.arm, "seed": curve.seed, "points": points}


def table(runs: Sequence[Run], metric: str, reached: Sequence[Mapping[str, Any]], out: Path) -> str:
    """The last value of each run, what it paid for each threshold, and the speed-ups."""
    names = [f"steps to {number(row['threshold'])}" for row in reached]
    rows = [["run", f"last {metric}", *names]]
    for run in runs:
        paid = [row["reach"][run.name] for row in reached]
        steps = ["never" if one is None else f"{one['steps']:,}" for one in paid]
        rows.append([run.name, number(run.curve(metric).end.value), *steps])
    lines = [aligned(rows)]
    for row in reached:
        if row["speedup"] is not None:
            ratios = ", ".join(f"{value:.2f}x in {unit}" for unit, value in row["speedup"].items())
            lines.append(f"{OURS} to {number(row['threshold'])}: {ratios} over {BASELINE}")
    return "\n".join([*lines, "", f"curves: {out}"])
