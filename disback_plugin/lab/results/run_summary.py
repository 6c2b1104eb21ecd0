"""The summary of `disback run` and `report`: all numbers of a report, as plain JSON data."""

from collections.abc import Sequence
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.lab.results.comparison import CONTROLS, compare, speedups
from disback_plugin.lab.results.curves import higher_is_better
from disback_plugin.lab.results.health import health_notes
from disback_plugin.lab.results.runs import Run
from disback_plugin.lab.results.summary import summarise

FORMAT_VERSION = 2
ARM_ORDER = ("disback", "fixed", "warm")


def summarise_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Finals, bests, times to thresholds and paired speed-ups, up to one budget for all runs.

    The budget is the smallest last evaluated step of the complete runs (of all runs where none is
    complete). A run that has not come so far is listed and drawn, but not counted. Numbers that
    are not finite become None. Raises RunError where runs of different experiments are mixed.
    """
    primary, thresholds = _common_setting(runs)
    budget = _budget(runs)
    counted = [run for run in runs if budget <= run.last_step]
    arms = _arms(counted, primary, thresholds, budget)
    controls = [arm for arm in CONTROLS if arm in arms and "disback" in arms]
    return {
        "format_version": FORMAT_VERSION,
        "experiment": runs[0].experiment,
        "primary": primary,
        "higher_is_better": higher_is_better(primary),
        "thresholds": thresholds,
        "budget": budget,
        "runs": [_run_entry(run, run in counted) for run in runs],
        "arms": arms,
        "speedups": {arm: speedups(arms["disback"], arms[arm]) for arm in controls},
        "comparisons": {arm: compare(arms["disback"], arms[arm], primary) for arm in controls},
        "notes": _notes(runs, counted, budget),
    }


def arm_order(arms: set[str]) -> list[str]:
    """DisBack first, then its controls, then what else there is by name."""
    return [arm for arm in ARM_ORDER if arm in arms] + sorted(arms.difference(ARM_ORDER))


def _arms(
    runs: Sequence[Run], primary: str, thresholds: Sequence[float], budget: int
) -> dict[str, dict[str, Any]]:
    """Every metric's finals and bests, the primary one's times to thresholds, by arm."""
    metrics = sorted({name for run in runs for name in run.curves}, key=lambda m: (m != primary, m))
    summaries = {
        metric: summarise(
            [run.curve(metric, budget) for run in runs], thresholds if metric == primary else ()
        )
        for metric in metrics
    }
    arms = {}
    for arm in arm_order({run.arm for run in runs}):
        own = {m: summary[arm, None] for m, summary in summaries.items() if (arm, None) in summary}
        arms[arm] = {
            "seeds": own[primary].seeds,
            "finals": {metric: summary.final for metric, summary in own.items()},
            "bests": {metric: summary.best for metric, summary in own.items()},
            "seconds": own[primary].seconds,
            "passes": own[primary].passes,
            "thresholds": own[primary].thresholds,
        }
    return arms


def _common_setting(runs: Sequence[Run]) -> tuple[str, list[float]]:
    """The primary metric and its thresholds, easiest first; equal in all runs of a report."""
    if not runs:
        raise RunError("no runs to summarise; give at least one run folder")
    for name in ("experiment", "primary", "thresholds"):
        seen = sorted({str(getattr(run, name)) for run in runs})
        if len(seen) > 1:
            raise RunError(f"the runs differ in {name}: {', '.join(seen)}; make a report for each")
    primary = runs[0].primary
    for run in runs:
        _check_primary(run)
    return primary, sorted(runs[0].thresholds, reverse=not higher_is_better(primary))


def _check_primary(run: Run) -> None:
    at = {step for step, *_ in run.curve(run.primary).points}
    for step in sorted({p.step for curve in run.curves.values() for p in curve.points} - at):
        names = [m for m, c in run.curves.items() if any(p.step == step for p in c.points)]
        raise RunError(
            f"{run.name} has no {run.primary} at step {step}, only {', '.join(sorted(names))}; "
            "set `primary` to one of them"
        )


def _budget(runs: Sequence[Run]) -> int:
    evaluated = [run for run in runs if run.last]
    complete = [run for run in evaluated if run.complete]
    return min((run.last_step for run in complete or evaluated), default=0)


def _run_entry(run: Run, counted: bool) -> dict[str, Any]:
    last = run.last
    return {
        "name": run.name,
        "arm": run.arm,
        "seed": run.seed,
        "complete": run.complete,
        "counted": counted,
        "num_steps": run.num_steps,
        "step": last.step if last else None,
        "seconds": last.seconds if last else None,
        "passes": last.passes if last else None,
        "recording_steps": run.recording[1].step - run.recording[0].step if run.recording else 0,
        "num_switches": len(run.switches),
    }


def _notes(runs: Sequence[Run], counted: Sequence[Run], budget: int) -> list[str]:
    notes = []
    for run in runs:
        reached = f"evaluated up to step {run.last_step}" if run.last else "no evaluation yet"
        use = "counted" if run in counted else "drawn, not counted" if run.last else "left out"
        if not run.complete:
            notes.append(f"{run.name} is incomplete ({reached} of {run.num_steps}): {use}.")
        elif run.last_step > budget:
            notes.append(f"{run.name} went on to step {run.last_step}: counted up to {budget}.")
        elif not run.last:
            notes.append(f"{run.name} has no evaluation: left out.")
        if run.complete and run.switches and run.switches[-1].node:
            notes.append(
                f"{run.name} ended at node {run.switches[-1].node}: the teacher never had its turn."
            )
        notes += health_notes(run)
    seeds = {run.arm: {r.seed for r in counted if r.arm == run.arm} for run in counted}
    if len({frozenset(own) for own in seeds.values()}) > 1:
        notes.append("The arms have different seeds: comparisons use the seeds both arms have.")
    return notes
