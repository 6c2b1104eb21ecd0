"""A comparison's summary as text, and as Markdown as experiments/RESULTS.md shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from disback_plugin.errors import count
from disback_plugin.lab.report.formatting import INTERVALS, mean_std, speed
from disback_plugin.lab.results.statistics import MIN_SEEDS
from disback_plugin.lab.results.summary import BASELINE

HEADER = f"""speed-up in network passes, recording and measuring counted; 95 % intervals are
{INTERVALS}"""
ORDER = (BASELINE, "lr-warmup", "warm", "path", "disback", "adaptive")
NONE_ARRIVED = "none arrived"
Row = Mapping[str, Any]


def sweep_table(summary: Row) -> str:
    """The summary as text, a line an arm and learning rate."""
    lines = [HEADER]
    if any(row["num_seeds"] < MIN_SEEDS for row in summary["arms"]):
        few = f"fewer than {MIN_SEEDS} seeds have no interval"
        lines.append(f"{few}; give --seeds {MIN_SEEDS} or more")
    if all(row["arm"] != BASELINE for row in summary["arms"]):
        lines.append(f"no speed-ups: the arm {BASELINE}, the baseline, was not run")
    for row in summary["arms"]:
        num = row["num_seeds"]
        nodes = "" if row["num_nodes"] is None else f", {row['num_nodes']:.1f} nodes"
        lines.append(
            f"\n{row['arm']} at {row['student_lr']:g} ({count(num, 'seed')}{nodes}): "
            f"final {_final(row)}"
        )
        for limit in row["thresholds"]:
            arrived = f"{limit['arrived']}/{num}"
            cost = f"{limit['passes']:.0f} passes" if limit["arrived"] else "not reached"
            same, best = (_speed_up(limit[over]) for over in ("over_same_lr", "over_best_lr"))
            lines.append(
                f"  to {limit['threshold']:<6g} {cost:>15}  {arrived:>6}  "
                f"same lr {same}  best lr {best}"
            )
    return "\n".join(lines)


def sweep_markdown(summary: Row) -> str:
    """Every arm at every rate over `fixed` at that rate; then each at its best, if more were run.

    Bold: the whole interval lies above 1, and the speed-up is no upper bound. Seeds that did not
    arrive are told in brackets.
    """
    rows = sorted(summary["arms"], key=lambda row: (row["student_lr"], _position(row["arm"])))
    limits = [limit["threshold"] for limit in rows[0]["thresholds"]]
    lines = _head("student_lr", "arm", *(f"to {limit:g}" for limit in limits), "final")
    for row in rows:
        cells = [_cell(row, limit, limit["over_same_lr"]) for limit in row["thresholds"]]
        lines.append(_line(f"{row['student_lr']:g}", row["arm"], *cells, _final(row)))
    if len({row["student_lr"] for row in rows}) > 1:
        lines += ["", "Each arm at its best rate, chosen afterwards for each threshold:", ""]
        lines += _head("arm", *(f"to {limit:g}" for limit in limits))
        for arm in dict.fromkeys(sorted((row["arm"] for row in rows), key=_position)):
            own = [row for row in rows if row["arm"] == arm]
            lines.append(_line(arm, *(_best(own, index) for index in range(len(limits)))))
    lines += [text for note in summary.get("notes", ()) for text in ("", f"Note: {note}")]
    return "\n".join(lines) + "\n"


def _best(rows: Sequence[Row], index: int) -> str:
    row = min(rows, key=lambda row: row["thresholds"][index]["passes"])
    limit = row["thresholds"][index]
    return f"{_cell(row, limit, limit['over_best_lr'])} at {row['student_lr']:g}"


def _cell(row: Row, limit: Row, over: Row | None) -> str:
    missing = row["num_seeds"] - limit["arrived"]
    arrived = f" [{limit['arrived']} of {row['num_seeds']}]" if missing else ""
    if over is None or row["arm"] == BASELINE:
        return f"{limit['passes']:,.0f} passes{arrived}" if limit["arrived"] else "not reached"
    text = _speed_up(over)
    if text == NONE_ARRIVED:
        return text
    bound_above = over["arrived"] < over["baseline_arrived"]  # of it, 1 could still be the truth
    if over["low"] is not None and over["low"] > 1 and not bound_above:
        text = f"**{text}**"
    return text + arrived


def _speed_up(over: Row | None) -> str:
    """`≤`: more of the baseline's seeds arrived; `≥`: more of the arm's did."""
    if over is None:
        return "-"
    if not over["arrived"] and not over["baseline_arrived"]:
        return NONE_ARRIVED
    more = over["arrived"] - over["baseline_arrived"]
    sign = "≤ " if more < 0 else "≥ " if more > 0 else ""
    return sign + speed(over["estimate"], over["low"], over["high"])


def _final(row: Row) -> str:
    return mean_std({"mean": row["final"], "std": row["final_std"]})


def _position(arm: str) -> int:
    """An arm of an earlier version, whose curves lie there, comes last."""
    return ORDER.index(arm) if arm in ORDER else len(ORDER)


def _head(*names: str) -> list[str]:
    return [_line(*names), f"|{'---|' * len(names)}"]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
