"""A run that is half done, and what resuming it comes to: its end, or an error of ours."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from disback_plugin.errors import DisBackError
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from tests.faults.works import digest
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


def mutations(data: bytes, num: int) -> Iterator[tuple[str, bytes]]:
    """What a bad disk makes of a file: `num` flips, every other one of a digit; a cut; nothing."""
    digits = [place for place, byte in enumerate(data) if 48 <= byte < 58] or [0]
    for number in range(num):
        # the lowest bit of a digit is the change that JSON does not notice
        if number % 2 == 0:
            place, bit = digits[(2 * number + 1) * len(digits) // (2 * num)], 0
        else:
            place, bit = (2 * number + 1) * len(data) // (2 * num), number % 8
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} of {len(data)}", bytes(changed)
    if num > 2:
        yield "cut in half", data[: len(data) // 2]
        yield "empty", b""
