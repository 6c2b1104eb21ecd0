"""Numbers of one arm over its seeds: finals, bests, times to thresholds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from disback_plugin.lab.results.direction import higher_is_better
from disback_plugin.lab.results.runs import Run
from disback_plugin.lab.results.statistics import spread
from disback_plugin.lab.results.thresholds import CurvePoint, time_to_threshold

Pick = Callable[[Sequence[CurvePoint]], float]


def arm_numbers(
    runs: Sequence[Run], primary: str, thresholds: Sequence[float], budget: int
) -> dict[str, Any]:
    """One arm's entry in the summary; `runs` are its counted runs, one per seed."""
    metrics = sorted({name for run in runs for name in run.evaluations[-1].metrics})
    metrics.sort(key=lambda name: name != primary)
    ends = {run.seed: run.curve(primary, budget)[-1] for run in runs}
    return {
        "seeds": [run.seed for run in runs],
        "finals": {name: _over_seeds(runs, name, budget, _final) for name in metrics},
        "bests": {name: _over_seeds(runs, name, budget, _best(name)) for name in metrics},
        "seconds": seeds_and_spread({seed: end.seconds for seed, end in ends.items()}),
        "passes": seeds_and_spread({seed: end.passes for seed, end in ends.items()}),
        "thresholds": [_reaches(runs, primary, threshold, budget) for threshold in thresholds],
    }


def seeds_and_spread(values: Mapping[int, float]) -> dict[str, Any]:
    """{"mean", "std", "seeds": {seed: value}}; one value that is not finite makes the mean None."""
    finite = {str(seed): value if math.isfinite(value) else None for seed, value in values.items()}
    numbers = [value for value in finite.values() if value is not None]
    if len(numbers) < len(finite) or not numbers:
        return {"mean": None, "std": None, "seeds": finite}
    mean, std, _ = spread(numbers)
    return {"mean": mean, "std": std, "seeds": finite}


def _over_seeds(runs: Sequence[Run], metric: str, budget: int, pick: Pick) -> dict[str, Any]:
    curves = {run.seed: run.curve(metric, budget) for run in runs}
    return seeds_and_spread({seed: pick(curve) for seed, curve in curves.items() if curve})


def _final(curve: Sequence[CurvePoint]) -> float:
    return curve[-1].value


def _best(metric: str) -> Pick:
    choose = max if higher_is_better(metric) else min

    def best(curve: Sequence[CurvePoint]) -> float:
        return choose((p.value for p in curve if math.isfinite(p.value)), default=math.nan)

    return best


def _reaches(runs: Iterable[Run], primary: str, threshold: float, budget: int) -> dict[str, Any]:
    better_up = higher_is_better(primary)
    reaches = {
        str(run.seed): time_to_threshold(
            run.curve(primary, budget), threshold, higher_is_better=better_up
        )
        for run in runs
    }
    return {
        "threshold": threshold,
        "reached": sum(reach is not None for reach in reaches.values()),
        "of": len(reaches),
        "seeds": {seed: reach._asdict() if reach else None for seed, reach in reaches.items()},
    }
