"""The figures as files: what must hold with what was seen, tables, and curves over the size."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
COLOURS = {"switch": "#D55E00", "prefetched": "#0072B2", "naive": "0.5", "copy": "0.75"}
JUDGED_FROM = 30_000_000  # parameters; limits are for a block of SDXL (35 M) and U-Nets of 100 M
MODELS = {"SD1.5": 859_520_964, "SDXL": 2_567_463_684, "Flux": 11_901_408_320}  # parameters


@dataclass(frozen=True)
class Limit:
    """A row of what must hold; seen: the worst of its cases."""

    what: str
    at_most: float
    seen: float
    where: str

    @property
    def broken(self) -> bool:
        return not self.seen <= self.at_most


def limits(found: dict[str, Rows]) -> Iterator[Limit]:
    """What was measured of it, in the order of the issue that set the limits.

    Where larger networks were measured, smaller ones are shown and not judged: theirs is
    the cost of a tensor, not of a parameter.
    """
    cases = _judged(found["cases"])
    for teacher, at_most in (("float32", 2.5), ("bfloat16", 4.0)):
        own = [case for case in cases if case["teacher"] == teacher]
        yield from _worst(f"switch / naive, {teacher}", at_most, own, "switch", "naive")
    ahead = [case for case in cases if "prefetched_switch" in case]
    what = "prefetched switch / copy_ alone"
    yield from _worst(what, 3, ahead, "prefetched_switch", "prefetched_copy")
    yield from _worst("record / safetensors + fsync", 1.5, cases, "record", "save")
    yield from _worst("step's stall at a record / snapshot", 1.5, cases, "stall", "snapshot")
    kept = "kept, bytes a parameter: "
    yield from _worst(f"{kept}one process, no prefetch", 0.5, cases, "kept")
    yield from _worst(f"{kept}a rank", 0.5, found["ranks"], "kept")
    yield from _worst("extra at a switch, bytes a parameter", 0.2, cases, "extra_at_switch")
    yield from _worst("extra at a record, bytes a parameter", 4.2, cases, "extra_at_record")
    yield from _worst("bytes read a rank / (node / ranks)", 1.05, found["ranks"], "read_share")
    bounded = [row for row in found["codecs"] if row["codec"] == "bounded"]  # of any size
    yield from _worst("codec bounded / bf16 bytes", 0.30, bounded, "share")
    yield from _worst("codec bounded, error of the node's change", 0.10, bounded, "error")
    yield from _worst("begin_step + end_step, nothing due, s", 5e-6, cases, "nothing_due")
    if any(case["device"] == "cuda" for case in cases):
        yield from _worst("prefetched switch on the GPU, s", 0.25, ahead, "prefetched_switch")
        yield from _worst("extra device memory, bytes", 0, cases, "extra_on_device")


def _judged(cases: Rows) -> Rows:
    """The large ones; all where there are none."""
    return [case for case in cases if case["parameters"] >= JUDGED_FROM] or cases


def _worst(what: str, at_most: float, rows: Rows, key: str, unit: str = "") -> Iterator[Limit]:
    seen = [(row[key] / (row[unit] if unit else 1), _name(row)) for row in rows]
    if seen:
        value, where = max(seen)
        yield Limit(what, at_most, value, where)


def _name(row: dict[str, Any]) -> str:
    ranks = f"{row.get('ranks')} ranks of {row.get('sharding')}"
    more = row.get("teacher") or row.get("codec") or ranks
    return f"{row['network']}, {more}"


def write_report(found: dict[str, Rows], out: Path) -> list[Limit]:
    """Write results.json, results.md and scaling.svg; returns the limits that are broken."""
    rows = list(limits(found))
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    parts = [_limits_table(rows), _case_table(found["cases"])]
    if len(_judged(found["cases"])) < len(found["cases"]):
        parts[0] += f"\nJudged: networks of {JUDGED_FROM / 1e6:g} M parameters and more.\n"
    if not any("prefetched_switch" in case for case in found["cases"]):
        parts[0] += "\nPrefetching: this version has no such setting; skipped.\n"
    if found["cases"]:
        parts.append(_arithmetic(found["cases"]))
    if found["codecs"]:
        parts.append(_table(found["codecs"], _CODECS))
    if found["ranks"]:
        parts.append(_table(found["ranks"], _RANKS))
    (out / "results.md").write_text("\n".join(parts))
    draw(found, out / "scaling.svg")
    return [row for row in rows if row.broken]


_CODECS = {
    "network": "network",
    "codec": "codec",
    "share": "bytes / bf16",
    "error": "error / change",
    "write": "write, s",
    "read": "read, s",
}
_RANKS = {
    "network": "network",
    "sharding": "sharding",
    "ranks": "ranks",
    "switch": "switch, s",
    "read_share": "read / (node / ranks)",
    "kept": "kept, B a parameter",
}


def _limits_table(rows: list[Limit]) -> str:
    lines = ["| what | at most | seen | worst case | |", "|---|---|---|---|---|"]
    for row in rows:
        word = "**broken**" if row.broken else "holds"
        lines.append(f"| {row.what} | {row.at_most:g} | {row.seen:.4g} | {row.where} | {word} |")
    return "\n".join(lines) + "\n"


def _arithmetic(cases: Rows) -> str:
    """Seconds at the size of known models, from the largest network that was measured."""
    times = ("naive", "copy", "switch", "prefetched_switch", "save", "record", "snapshot", "stall")
    rows = []
    for teacher in dict.fromkeys(case["teacher"] for case in cases):
        own = [case for case in cases if case["teacher"] == teacher]
        largest = max(own, key=lambda case: case["parameters"])
        for model, num in MODELS.items():
            scale = num / largest["parameters"]
            row = {"model": f"{model}, {num / 1e9:.2f} B", "teacher": teacher}
            row |= {key: scale * largest[key] for key in times if key in largest}
            rows.append(row | {"from": largest["network"]})
    heads = {key: key.replace("_", " ") for key in ("model", "teacher", *times, "from")}
    return (
        f"Arithmetic, not measured: seconds = parameters x what is above.\n\n{_table(rows, heads)}"
    )


def _case_table(cases: Rows) -> str:
    """Nanoseconds a parameter, so that sizes can be compared."""
    times = ("switch", "prefetched_switch", "naive", "copy", "record", "save", "stall", "snapshot")
    times += ("cold_switch", "cold_naive")
    memory = ("kept", "prefetched_kept", "extra_at_switch", "extra_at_record")
    heads = ["network", "parameters", "teacher", *(f"{key}, ns" for key in times)]
    heads += [f"{key}, B" for key in memory]
    rows = []
    for case in cases:
        row = {"network": case["network"], "teacher": case["teacher"]}
        row["parameters"] = f"{case['parameters'] / 1e6:.1f} M"
        row |= {f"{key}, ns": 1e9 * case[key] / case["parameters"] for key in times if key in case}
        rows.append(row | {f"{key}, B": case[key] for key in memory if key in case})
    return _table(rows, {head: head.replace("_", " ") for head in heads})


def _table(rows: Rows, columns: dict[str, str]) -> str:
    def shown(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(columns.values())} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        lines.append(f"| {' | '.join(shown(row.get(key, '-')) for key in columns)} |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, Rows], file: Path) -> None:
    """Seconds over parameters, and the switch over ranks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for teacher, style in (("float32", "-"), ("bfloat16", "--")):
        cases = sorted(
            (case for case in found["cases"] if case["teacher"] == teacher),
            key=lambda case: case["parameters"],
        )
        for name, colour in COLOURS.items():
            key = "prefetched_switch" if name == "prefetched" else name
            points = [(case["parameters"], case[key]) for case in cases if key in case]
            if points:
                label = name if teacher == "float32" else None
                left.loglog(
                    *zip(*points, strict=True), style, marker=".", color=colour, label=label
                )
    left.set(xlabel="parameters, millions", ylabel="seconds", title="a switch, dashed: bfloat16")
    sizes = sorted({case["parameters"] for case in found["cases"]})
    left.set_xticks(sizes, [f"{size / 1e6:.3g}" for size in sizes])
    left.minorticks_off()
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=7, loc="lower right")
    for sharding, style in (("FSDP1", ".-"), ("FSDP2", ".--")):
        rows = [row for row in found["ranks"] if row["sharding"] == sharding]
        for key, what, colour in (
            ("switch", "switch, seconds", COLOURS["switch"]),
            ("read_share", "bytes read a rank / (node / ranks)", COLOURS["prefetched"]),
        ):
            ranks, values = [row["ranks"] for row in rows], [row[key] for row in rows]
            label = what if sharding == "FSDP1" else None
            right.plot(ranks, values, style, color=colour, label=label)
    if found["ranks"]:
        ranks = sorted({row["ranks"] for row in found["ranks"]})
        right.set(
            xlabel="ranks of one host",
            xticks=ranks,
            ylim=(0, None),
            title="under FSDP1, dashed: FSDP2",
        )
        right.legend(fontsize=7)
    figure.savefig(file)
