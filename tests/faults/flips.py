"""A run that is half done, and what resuming it comes to: its end, or an error of ours."""

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from disback_plugin.errors import DisBackError
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from tests.faults.looking import digest
from tests.lab.trainer.conftest import tiny_config

STOP = 8  # the first of three nodes is in the real score's place


class Stop(Exception):  # noqa: N818
    """The run ends here."""


def prepare(folder: str) -> None:
    real = CheckpointFolder.save

    def save(self: CheckpointFolder, checkpoint: Checkpoint) -> Path:
        done = real(self, checkpoint)
        if checkpoint.step == STOP and "teacher" not in self.folder.parts:
            raise Stop
        return done

    CheckpointFolder.save = save  # type: ignore[method-assign]
    try:
        run_experiment(tiny_config(), Path(folder) / "out", ["disback"])
    except Stop:
        return
    raise AssertionError("the run came to its end")


def resume(folder: str) -> dict[str, str]:
    """The end of the run; under "error" what was said instead."""
    out = Path(folder) / "out"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run_experiment(tiny_config(), out, ["disback"], resume=True)
    except (DisBackError, OSError) as error:
        return {"error": str(error)}
    run = out / "runs" / "disback-seed0"
    files = [run / "student.safetensors", *sorted((run / "path").iterdir())]
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    measured = [line["metrics"] for line in lines if line["kind"] == "eval"]
    return {
        **{file.name: digest(file.read_bytes()) for file in files},
        "metrics": json.dumps(measured),
    }


def mutations(data: bytes, numbers: int, others: int) -> Iterator[tuple[str, bytes]]:
    """What a bad disk makes of a file: the lowest bit of some numbers in its text, which no parser
    notices, and other bits; where there are others, also a cut and nothing at all.
    """
    digits = [found.start(1) for found in re.finditer(rb"[:\[,\s]-?(\d)", data)]
    flips = [(place, 0) for place in spread(digits, numbers)]
    flips += [
        (place, (2 * number + 5) % 8)
        for number, place in enumerate(spread(range(len(data)), others))
    ]
    for place, bit in flips:
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} of {len(data)}", bytes(changed)
    if others:
        yield "cut in half", data[: len(data) // 2]
        yield "empty", b""


def spread(places: Sequence[int], num: int) -> list[int]:
    """At most `num` of them, evenly."""
    num = min(num, len(places))
    return [places[(2 * number + 1) * len(places) // (2 * num)] for number in range(num)]
