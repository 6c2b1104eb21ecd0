"""What the words of a verdict mean, in the order in which a reader meets them."""

from collections.abc import Mapping
from typing import Any

from disback_plugin.lab.results.curves import higher_is_better

ARMS = {
    "disback": (
        "DisBack",
        "the arm disback: a path of networks from the teacher to the untrained student is "
        "recorded, then walked back; its nodes answer as the real score, the teacher at last",
    ),
    "fixed": (
        "the fixed teacher",
        "the arm fixed, the usual training: the teacher is the real score from the first step on",
    ),
    "warm": (
        "the warm fake score",
        "the arm warm: records as DisBack does and keeps the fake score that comes of it, then "
        "trains against the teacher at once; what is left of DisBack without the walk",
    ),
}
METRICS = {
    "fd_pixel": "Frechet distance of the samples to the data, or to the teacher's samples where "
    "there is none, by their pixels",
    "fd_feature": "Frechet distance to the data, of the features of a small classifier of digits",
    "fd_classifier": "Frechet distance to the data, of the features of a classifier of its labels",
    "class_coverage": "effective share of the classes that the samples cover, 1 at most",
    "sliced_wasserstein": "Wasserstein distance to the data, averaged over directions",
    "energy_distance": "energy distance to the data, or to the teacher's samples, in their units",
    "mode_coverage": "share of the data's modes that get their samples, 1 at most",
}
PASSES = (
    "forward passes of any network, for each sample of a batch; a backward counts as two, "
    "recording is counted"
)
INTERVAL = (
    "where it holds 1x (of a difference: 0) the seeds do not tell the arms apart; at least three "
    "seeds of each are needed"
)


def direction(metric: str) -> str:
    """`lower is better`."""
    return f"{'higher' if higher_is_better(metric) else 'lower'} is better"


def metric_meaning(metric: str) -> str:
    """What a metric measures, as far as it is known here, and which way is good."""
    known = METRICS.get(metric)
    return f"{known}; {direction(metric)}" if known else direction(metric)


def words(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(word, meaning) for every word that this summary's verdict uses."""
    controls = summary["comparisons"]
    found = [ARMS[arm] for arm in ARMS if arm in controls or (arm == "disback" and controls)]
    found.append((summary["primary"], metric_meaning(summary["primary"])))
    if any(entry["speed"] is not None for entry in controls.values()):
        found.append(("network passes", PASSES))
    if any(entry["num_seeds"] > 1 for entry in controls.values()):
        found.append(("95 % interval", INTERVAL))
    return found
