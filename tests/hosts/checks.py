"""What must hold of a run with DisBack, read from its notes and its path alone."""

from pathlib import Path
from typing import Any

import torch

from disback_plugin import DegradationPath
from disback_plugin.path import cast
from tests.hosts.digests import digest_tensors

RECORD, AT, INTERVAL = 5, (2, 3, 5), 2
NUM_STEPS = RECORD + INTERVAL * (len(AT) - 1) + 2  # two steps on the teacher
Notes = list[dict[str, Any]]


def flags(path: Path) -> list[str]:
    """The arguments of the runs that are checked here."""
    at = ",".join(map(str, AT))
    recording = ["--disback_record_iters", str(RECORD), "--disback_record_at", at]
    return ["--disback", "--disback_path", str(path), *recording, "--disback_interval", "2"]


def reusing(path: Path) -> list[str]:
    """The arguments of a run that walks a path recorded before."""
    return ["--disback", "--disback_path", str(path), "--disback_interval", str(INTERVAL)]


def walks_at_once(notes: Notes, recorded: Notes) -> None:
    """With a recorded path: the same walk from the first step on, the generator trained at once."""
    assert [line["real"] for line in notes] == [line["real"] for line in recorded[RECORD:]]
    assert len(notes[0]["losses"]) == 2
    assert notes[0]["generator"] != notes[-1]["generator"]


def same_training(plain: Notes, other: Notes) -> None:
    """Bit for bit the same losses, logs and weights."""
    assert len(plain) == len(other) > 1
    for first, second in zip(plain, other, strict=True):
        assert first == second, f"step {first['step']}"
    assert plain[0]["losses"] != plain[1]["losses"]


def generator_is_held(notes: Notes) -> None:
    """While recording: the generator's bytes and its learning rate stay, the fake score moves."""
    recording = notes[:RECORD]
    assert {line["generator"] for line in recording} == {notes[0]["generator"]}
    assert {line["generator_lr"] for line in recording} == {notes[0]["generator_lr"]}
    assert len({line["fake"] for line in recording}) >= RECORD - 1  # DMD2 warms up from rate 0
    assert all(len(line["losses"]) == 1 for line in recording), "the generator was backpropagated"
    assert notes[-1]["generator"] != notes[0]["generator"]


def nodes_are_installed(notes: Notes, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """The real score of every step is the scheduled node, the teacher at first and at last."""
    recorded = DegradationPath.open(path)
    assert [entry.step for entry in recorded] == list(AT)
    assert recorded.complete
    expected = {
        index: digest_tensors(
            {
                name: cast(value, dtype, "stochastic", f"node {index}/{name}")
                for name, value in recorded.read(index).items()
            }
        )
        for index in range(1, len(AT) + 1)
    }
    teacher = notes[0]["real"]
    assert len({teacher, *expected.values()}) == len(AT) + 1, "nodes do not differ"
    for line in notes:
        walked = line["step"] - RECORD
        node = 0 if walked < 0 else max(len(AT) - 1 - walked // INTERVAL, 0)
        assert line["real"] == (expected[node] if node else teacher), f"step {line['step']}"
        if "disback/stage" in line["logged"]:  # rank 0, from its second step on
            stage = 0 if walked < 0 else 1 if node else 2
            assert line["logged"]["disback/stage"] == stage
            assert line["logged"]["disback/node"] == node
    assert recorded.read(len(AT)).keys() == recorded.read(1).keys()


def fake_score_is_the_node(notes: Notes, path: Path) -> None:
    """What was recorded is the fake score of that step, bit for bit."""
    recorded = DegradationPath.open(path)
    for entry in recorded:
        assert digest_tensors(recorded.read(entry.index)) == notes[entry.step - 1]["fake"]


def resumed_is_the_same(whole: Notes, resumed: Notes) -> None:
    """A resumed run does what the run without a kill does, from the step after the checkpoint."""
    first = resumed[0]["step"]
    assert first > 0
    assert len(resumed) == len(whole) - first
    for expected, line in zip(whole[first:], resumed, strict=True):
        for key in ("step", "losses", "real", "fake", "generator", "generator_lr"):
            assert line[key] == expected[key], f"step {line['step']}: {key}"
