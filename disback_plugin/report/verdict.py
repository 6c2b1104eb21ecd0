"""One plain sentence: whether DisBack helped here, by how much, against which control."""

from collections.abc import Mapping
from typing import Any

from disback_plugin.report.formatting import mean_std, number

OPENINGS = {
    "helped": "DisBack helped here against {control}",
    "hurt": "DisBack hurt here against {control}",
    "mixed": "DisBack is mixed here against {control}",
    "tie": "DisBack made no difference beyond the spread over seeds here against {control}",
    "unknown": "DisBack cannot be judged here against {control}",
}
FOLLOWINGS = {
    "helped": "against {control} it helped",
    "hurt": "against {control} it hurt",
    "mixed": "against {control} it is mixed",
    "tie": "against {control} it made no difference beyond the spread over seeds",
    "unknown": "against {control} it cannot be judged",
}
CONCLUSIONS = {
    ("helped", "helped"): "so part of the gain is the path itself",
    ("helped", "tie"): "so the gain is the warm fake score more than the path",
    ("helped", "hurt"): "so the warm fake score alone does better than with the path",
}


def verdict(summary: Mapping[str, Any]) -> str:
    """Whether DisBack helped, hurt, or made no difference beyond the spread, from `summarise`.

    `fixed` is compared first, then `warm`, which tells how much is the warm fake score's doing.
    """
    if "disback" not in summary["arms"]:
        return "No disback run is counted here, so whether DisBack helped cannot be said."
    comparisons = summary["comparisons"]
    if not comparisons:
        return (
            "There is no fixed or warm run to compare with, so whether DisBack helped cannot be "
            f"said; {_setting(summary)}."
        )
    clauses = [
        f"{(FOLLOWINGS if index else OPENINGS)[entry['outcome']].format(control=control)}: "
        f"{_facts(summary, control, entry)}"
        for index, (control, entry) in enumerate(comparisons.items())
    ]
    outcomes = tuple(entry["outcome"] for entry in comparisons.values())
    conclusion = f", {CONCLUSIONS[outcomes]}" if outcomes in CONCLUSIONS else ""
    return f"{'; '.join(clauses)}{conclusion} ({_setting(summary)})."


def _facts(summary: Mapping[str, Any], control: str, entry: Mapping[str, Any]) -> str:
    facts = [_speed(summary, control, entry["speed"]), _final(entry["final"])]
    told = " and ".join(fact for fact in facts if fact)
    num_seeds = entry["final"]["num_seeds"]
    if num_seeds < len(summary["arms"]["disback"]["seeds"]):
        told += f" on the {num_seeds} seeds both have"
    return told


def _speed(summary: Mapping[str, Any], control: str, speed: Mapping[str, Any]) -> str:
    if "threshold" not in speed:
        return "no threshold tells them apart" if summary["thresholds"] else ""
    goal = f"{summary['primary']} {number(speed['threshold'])}"
    if speed["disback_reached"] != speed["control_reached"]:
        return (
            f"{goal} was reached with {speed['disback_reached']} of {speed['of']} seeds, "
            f"by {control} with {speed['control_reached']} of {speed['of']}"
        )
    steps = speed["steps"]
    if steps["ratio"] is None:
        return f"both began at {goal} or better"
    interval = ""
    if steps["low"] is not None:
        interval = f", 95 % interval {steps['low']:.2f}x to {steps['high']:.2f}x"
    if speed["outcome"] == "tie":
        return f"no clear difference in steps to {goal} ({steps['ratio']:.2f}x{interval})"
    word = "faster" if steps["ratio"] >= 1 else "as fast"
    return f"{steps['ratio']:.2f}x {word} to {goal} (in steps{interval})"


def _final(final: Mapping[str, Any]) -> str:
    if final["disback"] is None:
        return "" if not final["num_seeds"] else "at the end samples were not finite for some seed"
    within = ", within the spread" if final["outcome"] == "tie" else ""
    return f"ended at {mean_std(final['disback'])} against {mean_std(final['control'])}{within}"


def _setting(summary: Mapping[str, Any]) -> str:
    num_seeds = len(summary["arms"]["disback"]["seeds"])
    seeds = "one seed only, so the spread is unknown" if num_seeds == 1 else f"{num_seeds} seeds"
    better = "higher" if summary["higher_is_better"] else "lower"
    text = (
        f"{summary['experiment']}, {summary['primary']}, {better} is better; {seeds}; "
        f"{number(summary['budget'])} steps each, recording counted"
    )
    if any(not run["complete"] for run in summary["runs"]):
        text += "; preliminary, not all runs are complete"
    return text
