"""The headline: one plain sentence per control, about speed and about the end of the budget."""

from collections.abc import Mapping
from typing import Any

from disback_plugin.lab.report.formatting import interval, mean_std, number
from disback_plugin.lab.report.words import ARMS
from disback_plugin.lab.results.statistics import MIN_SEEDS

PRELIMINARY = "Preliminary, not all runs are complete:"


def verdict(summary: Mapping[str, Any]) -> str:
    """Faster, slower, better, worse or no clear difference; one line a control.

    summary: of `summarise_runs`. The criteria are those of `compare`; nothing is claimed from
    fewer than MIN_SEEDS seeds.
    """
    if "disback" not in summary["arms"]:
        return "No disback run is counted here, so whether DisBack helped cannot be said."
    comparisons = summary["comparisons"]
    if not comparisons:
        return (
            "There is no fixed or warm run to compare with, so whether DisBack helped cannot be "
            "said."
        )
    lines = [PRELIMINARY] if preliminary(summary) else []
    return "\n".join([*lines, *headlines(summary).values()])


def preliminary(summary: Mapping[str, Any]) -> bool:
    """Whether runs are still going on."""
    return any(not run["complete"] for run in summary["runs"])


def headlines(summary: Mapping[str, Any]) -> dict[str, str]:
    """One sentence or two for each control."""
    return {
        control: _headline(summary, ARMS[control][0], entry)
        for control, entry in summary["comparisons"].items()
    }


def _headline(summary: Mapping[str, Any], control: str, entry: Mapping[str, Any]) -> str:
    num_seeds = entry["num_seeds"]
    if num_seeds == 0:
        return f"DisBack and {control} have no seed in common: nothing can be said."
    if num_seeds < MIN_SEEDS:
        facts = f"{_few_passes(summary, entry)}{_final(summary, entry['final'])}"
        if num_seeds == 1:
            return f"One seed only: nothing can be said of DisBack against {control} ({facts})."
        return f"Against {control}: too few seeds to say ({num_seeds} seeds; {facts})."
    if entry["decided_on"] == "passes":
        text = f"{_speed(summary, entry['speed'])}; {_final(summary, entry['final'])}: "
        text += entry["final"]["outcome"].replace("unknown", "undecided")
        return f"Against {control}, DisBack was {text}.{_short_of(summary, control, entry)}"
    return f"Against {control}, {_end(summary, entry)}.{_no_threshold(summary, control, entry)}"


def _few_passes(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    if entry["decided_on"] != "passes":
        return ""
    speed = entry["speed"]
    return f"{speed['passes']['ratio']:.2f}x in passes to {_goal(summary, speed)}; "


def _speed(summary: Mapping[str, Any], speed: Mapping[str, Any]) -> str:
    passes, goal, outcome = speed["passes"], _goal(summary, speed), speed["outcome"]
    ratio, low, high = passes["ratio"], passes["low"], passes["high"]
    tail = f"recording counted; 95 % interval {{}}, {speed['of']} seeds)"
    if outcome == "worse":
        text = f"{1 / ratio:.2f}x slower to {goal} (network passes, {tail}"
        return text.format(interval(1 / high, 1 / low, "x"))
    if outcome == "better":
        text = f"{ratio:.2f}x faster to {goal} (network passes, {tail}"
    else:
        apart = "" if low <= 1 <= high else ", at most one evaluation apart"
        text = f"not clearly faster or slower to {goal} ({ratio:.2f}x in passes{apart}, {tail}"
    return text.format(interval(low, high, "x"))


def _final(summary: Mapping[str, Any], final: Mapping[str, Any]) -> str:
    if final["disback"] is None:
        return (
            f"final samples not finite for {final['diverged']} of {final['num_seeds']} seeds "
            f"against {final['control_diverged']}"
        )
    values = f"{mean_std(final['disback'])} against {mean_std(final['control'])}"
    return f"final {values} at {number(summary['budget'])} steps"


def _end(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The finals as the claim: where no threshold can be compared."""
    final = entry["final"]
    claim = {
        "better": "DisBack ended better",
        "worse": "DisBack ended worse",
        "no clear difference": "DisBack ended with no clear difference",
        "unknown": "the end decides nothing about DisBack",
    }[final["outcome"]]
    told = _final(summary, final).removeprefix("final ")
    if final["difference"] is None:
        return f"{claim} ({told})"
    width = interval(final["difference"]["low"], final["difference"]["high"])
    facts = f"paired difference, 95 % interval {width}, {final['num_seeds']} seeds"
    return f"{claim}: {told} ({facts})"


def _short_of(summary: Mapping[str, Any], control: str, entry: Mapping[str, Any]) -> str:
    """How many seeds reached the next harder threshold, where any did."""
    short_of = entry["short_of"]
    if short_of is None or not (short_of["disback_reached"] or short_of["control_reached"]):
        return ""
    return f" {_counts(summary, control, short_of)}."


def _no_threshold(summary: Mapping[str, Any], control: str, entry: Mapping[str, Any]) -> str:
    if entry["speed"] is not None:
        goal = _goal(summary, entry["speed"])
        return f" Some seed began at {goal} or better, so speed cannot be compared."
    if entry["short_of"] is None:
        return ""
    return (
        " No threshold was reached by all seeds of both: "
        f"{_counts(summary, control, entry['short_of'])}."
    )


def _counts(summary: Mapping[str, Any], control: str, entry: Mapping[str, Any]) -> str:
    return (
        f"{_goal(summary, entry)} was reached by {entry['disback_reached']} of {entry['of']} "
        f"seeds with DisBack, {entry['control_reached']} of {entry['of']} with {control}"
    )


def _goal(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    return f"{summary['primary']} {number(entry['threshold'])}"
