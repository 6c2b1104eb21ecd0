"""A comparison's summary as Markdown tables, as experiments/RESULTS.md shows them."""

from typing import Any

from disback_plugin.lab.results.comparison_summary import BASELINE, bound

FIRST = (BASELINE, "lr-warmup", "warm", "path", "disback", "adaptive")
SIGN = {"<=": "≤ ", "": "", ">=": "≥ "}
Row = dict[str, Any]


def markdown(summary: dict[str, Any]) -> str:
    """Every arm at every rate over `fixed` at that rate; then each at its best, if more were run.

    Bold: the whole interval lies above 1, and the speed-up is no upper bound. Seeds that did not
    arrive are told in brackets.
    """
    rows = sorted(summary["arms"], key=lambda row: (row["student_lr"], _position(row["arm"])))
    limits = [limit["threshold"] for limit in rows[0]["thresholds"]]
    lines = _head("student_lr", "arm", *(f"to {limit:g}" for limit in limits), "final")
    for row in rows:
        cells = [_cell(row, limit, limit["over_same_lr"]) for limit in row["thresholds"]]
        std = "" if row["final_std"] is None else f" ± {row['final_std']:.2g}"
        final = f"{row['final']:.3g}{std}"
        lines.append(_line(f"{row['student_lr']:g}", row["arm"], *cells, final))
    if len({row["student_lr"] for row in rows}) > 1:
        lines += ["", "Each arm at its best rate, chosen afterwards for each threshold:", ""]
        lines += _head("arm", *(f"to {limit:g}" for limit in limits))
        for arm in dict.fromkeys(sorted((row["arm"] for row in rows), key=_position)):
            own = [row for row in rows if row["arm"] == arm]
            lines.append(_line(arm, *(_best(own, index) for index in range(len(limits)))))
    return "\n".join(lines) + "\n"


def _best(rows: list[Row], index: int) -> str:
    row = min(rows, key=lambda row: row["thresholds"][index]["passes"])
    limit = row["thresholds"][index]
    return f"{_cell(row, limit, limit['over_best_lr'])} at {row['student_lr']:g}"


def _cell(row: Row, limit: Row, over: Row | None) -> str:
    missing = row["num_seeds"] - limit["arrived"]
    arrived = f" [{limit['arrived']} of {row['num_seeds']}]" if missing else ""
    if over is None or row["arm"] == BASELINE:
        return f"{limit['passes']:,.0f} passes{arrived}" if limit["arrived"] else "not reached"
    if not over["arrived"] and not over["baseline_arrived"]:
        return "none arrived"
    speed = f"{SIGN[bound(over)]}{over['estimate']:.2f}x"
    if over["low"] is not None:
        speed += f" ({over['low']:.2f} to {over['high']:.2f})"
        if over["low"] > 1 and bound(over) != "<=":  # of an upper bound, 1 could still be the truth
            speed = f"**{speed}**"
    return speed + arrived


def _position(arm: str) -> int:
    return FIRST.index(arm) if arm in FIRST else len(FIRST)  # curves of a removed arm come last


def _head(*names: str) -> list[str]:
    return [_line(*names), f"|{'---|' * len(names)}"]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
