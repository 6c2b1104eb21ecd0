"""What must hold of FastGen's runs beyond what holds of every host's."""

from pathlib import Path
from typing import Any

from tests.hosts import checks as common
from tests.hosts.checks import INTERVAL, RECORD, Notes

STUDENT_FREQ = 2


def _without_log(notes: Notes) -> Notes:
    return [{key: value for key, value in line.items() if key != "logged"} for line in notes]


def same_training(plain: Notes, other: Notes) -> None:
    """Losses, weights and calls, bit for bit; only DisBack's own numbers may come on top."""
    common.same_training(_without_log(plain), _without_log(other))
    assert any(line["student_turn"] for line in plain)


def the_student_waits_for_its_turn(notes: Notes) -> None:
    """Its turn comes as FastGen has it, from the first iteration after recording."""
    for line in notes:
        turn = line["step"] >= RECORD and line["iteration"] % STUDENT_FREQ == 0
        assert line["student_turn"] == turn, line["iteration"]


def the_teacher_stays(notes: Notes) -> None:
    """Its bytes never change, and it alone gives features."""
    teacher = notes[0]["real"]
    for line in notes:
        assert line["teacher"] == teacher, line["step"]
        features = {who for what, who in line["calls"] if what == "features"}
        assert features == {teacher}, line["step"]


def nodes_answer(notes: Notes, guided: bool = False) -> None:
    """In its turn the student learns from the scheduled node; with guidance it asks it twice."""
    answered = set()
    for line in notes:
        x0 = [who for what, who in line["calls"] if what == "x0"]
        assert x0 == [line["real"]] * (1 + guided) * line["student_turn"], line["step"]
        answered |= set(x0)
    assert len(answered) == len(common.AT)  # both nodes, and the teacher


def everything(notes: Notes, path: Path, guided: bool = False) -> None:
    """Of a whole run."""
    assert [line["step"] for line in notes] == list(range(common.NUM_STEPS))
    common.generator_is_held(notes)
    common.nodes_are_installed(notes, path)
    common.fake_score_is_the_node(notes, path)
    the_student_waits_for_its_turn(notes)
    the_teacher_stays(notes)
    nodes_answer(notes, guided)
    stages = [line["logged"]["disback/stage"] for line in notes]
    assert stages == [0] * RECORD + [1] * INTERVAL * (len(common.AT) - 1) + [2, 2]


def resumed(before: Notes, after: Notes, path: Path, **more: Any) -> None:
    """A resumed run goes on with the walk; the random numbers are others, as without DisBack."""
    assert after[0]["step"] > 0
    everything([*before[: after[0]["step"]], *after], path, **more)
