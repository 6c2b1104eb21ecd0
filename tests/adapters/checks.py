"""What must hold of a run with DisBack, read from its notes and its path alone."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from disback_plugin import DegradationPath
from tests.adapters.digests import digest_tensors

RECORD, AT, INTERVAL = 5, (2, 3, 5), 2
NUM_STEPS = RECORD + INTERVAL * (len(AT) - 1) + 2  # two steps on the teacher
Notes = list[dict[str, Any]]


def walks_at_once(notes: Notes, recorded: Notes) -> None:
    """With a recorded path: the same walk from the first step on, the generator trains at once."""
    assert [line["real"] for line in notes] == [line["real"] for line in recorded[RECORD:NUM_STEPS]]
    held = recorded[0]["generator"]
    assert held != notes[2]["generator"] != notes[-1]["generator"]  # its turns may be rare


def same_training(plain: Notes, other: Notes, but: tuple[str, ...] = ()) -> None:
    """Bit for bit the same losses, logs and weights, and what else is noted but for those keys."""
    assert len(plain) == len(other) > 1
    for first, second in zip(plain, other, strict=True):
        assert first.keys() == second.keys()
        for key in first.keys() - set(but):
            assert first[key] == second[key], f"step {first['step']}: {key}"
    assert plain[0]["losses"] != plain[1]["losses"]


def node_at(step: int) -> int:
    """The scheduled node; 0 is the teacher."""
    walked = step - RECORD
    return 0 if walked < 0 else max(len(AT) - 1 - walked // INTERVAL, 0)


def stage_at(step: int) -> int:
    """Recording, on the way back, the teacher again."""
    return 0 if step < RECORD else 1 if node_at(step) else 2


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
                name: value.to(dtype)  # `auto`: the teachers' own files are float32
                for name, value in recorded.read(index).items()
            }
        )
        for index in range(1, len(AT) + 1)
    }
    teacher = notes[0]["real"]
    assert len({teacher, *expected.values()}) == len(AT) + 1, "nodes do not differ"
    for line in notes:
        node = node_at(line["step"])
        assert line["real"] == (expected[node] if node else teacher), f"step {line['step']}"
        if "disback/stage" in line["logged"]:  # rank 0, from its second step on
            assert line["logged"]["disback/stage"] == stage_at(line["step"])
            assert line["logged"]["disback/node"] == node
    assert recorded.read(len(AT)).keys() == recorded.read(1).keys()


def an_automatic_path_is_walked(notes: Notes, path: Path, dtype: torch.dtype) -> None:
    """Recorded with the generator held, walked down to the teacher; each node as it was stored."""
    recorded = DegradationPath.open(path)
    assert recorded.complete
    assert len(recorded) > 1
    teacher, last = notes[0]["real"], recorded.nodes[-1].step
    held = [line["generator"] for line in notes if line["generator"] == notes[0]["generator"]]
    assert len(held) >= last
    assert notes[-1]["generator"] != notes[0]["generator"]
    answers = {teacher: 0}
    for index in range(1, len(recorded)):
        node = {name: value.to(dtype) for name, value in recorded.read(index).items()}
        answers[digest_tensors(node)] = index
    walk = [answers[line["real"]] for line in notes]
    start = next(step for step, node in enumerate(walk) if node)
    assert start >= last
    assert walk[start:] == sorted(walk[start:], reverse=True)
    assert set(walk) == set(range(len(recorded)))
    assert walk[-1] == 0


def first_answers_as_recorded(folder: Path) -> None:
    """The student stood still: what the first node loses as real score, it lost as fake score."""
    seen = []
    for file in folder.rglob("disback.json"):
        progress = json.loads(file.read_text())["state"]["progress"]
        walk, losses = progress["walk"], progress["recording"]["losses"]
        if walk["first"] is not None and walk["since"] == 0:
            assert walk["node"] == len(losses) - 2
            assert math.isclose(walk["first"], losses[walk["node"]], rel_tol=1e-5), file
            seen.append(file)
    assert seen


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


def joined(*runs: Notes) -> Notes:
    """A run and those that went on with it, each up to where the next one begins."""
    steps = {line["step"]: line for notes in runs for line in notes}
    return [steps[step] for step in sorted(steps)]
