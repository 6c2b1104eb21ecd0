"""A path that is recorded where long steps end, or later; test_midway_resume.py: on resume."""

import logging

import pytest
import torch

from disback_plugin.errors import InstallError, SessionError
from tests.hosts.toy import ToyHost, same, tensors_of
from tests.session.measured import (
    APART,
    FAR,
    LATER,
    PATH,
    SCHEDULE,
    STAGES,
    TOGETHER,
    Measured,
    attach,
)


def test_where_long_steps_end_a_path_is_recorded_from_the_teacher_and_walked(tmp_path, caplog):
    host = ToyHost()
    teacher = tensors_of(host.teacher)
    disback = attach(host, tmp_path, Measured(host, PATH))
    turns = host.run(disback, range(4))
    assert not same(tensors_of(host.fake_score), teacher)
    assert host.fake_optimizer.state
    turns.append(disback.begin_step(4))
    assert same(tensors_of(host.fake_score), teacher)  # it starts again, as at a run's start
    assert not host.fake_optimizer.state
    held = tensors_of(host.student)
    turns = turns[:4] + host.run(disback, range(4, 8))
    assert same(tensors_of(host.student), held)
    turns += host.run(disback, range(8, 15))
    disback.close()
    assert [turn.stage for turn in turns] == STAGES
    assert [turn.node for turn in turns] == [0] * 8 + [2, 2, 1, 1, 0, 0, 0]
    assert [turn.switch.node for turn in turns if turn.switch] == [2, 1, 0]
    assert [turn.student_lr_factor for turn in turns] == [3.0] * 4 + [1.0] * 11
    assert [turn.update_student for turn in turns] == [True] * 4 + [False] * 4 + [True] * 7
    assert [node.step for node in disback.path] == [1, 2, 4]
    assert disback.path.complete
    assert disback.path.manifest.recording["begun_at"] == 4
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING][1:] == [
        "long steps end: student_lr_factor is 1 from step 4 on",
        "a path is recorded from step 4 on: the fake score is the teacher again",
    ]
    assert same(tensors_of(host.teacher), teacher)


def test_the_students_updates_are_counted_without_the_recording(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    updates = []
    for step in range(10, 20):
        turn = disback.begin_step(step)
        if turn.update_student:
            updates.append(step - disback.num_held(step))
        host.train_step(step, turn.update_student)
        disback.end_step(step)
    assert updates == [10, 11, 12, 13, 14, 15]
    assert disback.num_record_steps == 4


def test_the_log_tells_the_stage(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    stages = []
    for step in range(13):
        host.run(disback, range(step, step + 1))
        stages.append(disback.metrics(step)["disback/stage"])
    assert stages == [2] * 4 + [0] * 4 + [1] * 4 + [2]


@pytest.mark.parametrize("last", [0.3 * TOGETHER, 0.3 * APART])
def test_where_no_path_would_help_the_teacher_answers_for_good(tmp_path, last, caplog):
    host = ToyHost()
    measure = Measured(host, [FAR, LATER, last])
    disback = attach(host, tmp_path, measure)
    turns = host.run(disback, range(20))
    assert [turn.stage for turn in turns] == ["teacher"] * 20
    assert [turn.student_lr_factor for turn in turns] == [3.0] * 4 + [1.0] * 16
    assert not (tmp_path / "path").exists()
    assert measure.num_asked == 3
    assert caplog.messages[-2:] == [
        "long steps end: student_lr_factor is 1 from step 4 on",
        "the teacher knows the student's samples at step 4: no path is recorded",
    ]
    resumed = attach(ToyHost(), tmp_path, None)  # nothing is left to measure
    resumed.load_state_dict(disback.state_dict())
    assert resumed.begin_step(20).stage == "teacher"


def test_a_pull_that_is_not_finite_is_looked_at_again(tmp_path, caplog):
    caplog.set_level(logging.INFO, "disback")
    host = ToyHost()
    pulls = [FAR, float("nan") * TOGETHER, 2.0 * APART]
    disback = attach(host, tmp_path, Measured(host, pulls))
    turns = host.run(disback, range(9))
    assert [turn.stage for turn in turns] == ["teacher"] * 4 + ["record"] * 4 + ["backtrack"]
    assert "the teacher's loss on the student's samples is nan" in caplog.text


def test_a_run_that_ends_while_it_waits_says_so(tmp_path, caplog):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, [FAR, LATER]))
    host.run(disback, range(3))
    disback.close()
    assert caplog.messages[-1] == "the run ended before a path was worth recording: none was"


def test_a_wait_begins_only_at_the_teacher(tmp_path):
    host = ToyHost()
    with torch.no_grad():
        next(host.fake_score.parameters()).add_(1.0)
    with pytest.raises(InstallError, match="the fake score does not start as the teacher"):
        attach(host, tmp_path, Measured(host, PATH)).begin_step(0)


@pytest.mark.parametrize("stride", [1.0, 3.0])
def test_a_path_is_waited_for_while_all_samples_are_pulled_alike(tmp_path, stride, caplog):
    host = ToyHost()
    pulls = [FAR, 1.1 * FAR, LATER, 2.0 * APART]  # at the steps 0, 2, 4 and 8
    pulls = pulls if stride > 1 else [FAR, LATER, 2.0 * APART]  # at 0, 2 and 6
    at = 8 if stride > 1 else 6
    measure = Measured(host, pulls)
    disback = attach(host, tmp_path, measure, schedule={**SCHEDULE, "stride": stride})
    turns = host.run(disback, range(13))
    stages = ["teacher"] * at + ["record"] * 4 + ["backtrack"] * 4
    assert [turn.stage for turn in turns] == stages[:13]
    assert [turn.student_lr_factor for turn in turns] == [stride] * 2 + [1.0] * 11
    assert disback.path.manifest.recording["begun_at"] == at
    assert ("long" in caplog.text) == (stride > 1)


def test_without_a_way_to_reset_the_optimizer_nothing_is_recorded(tmp_path, caplog):
    host = ToyHost()
    measure = Measured(host, PATH)
    disback = attach(host, tmp_path, measure, reset=None)
    assert {turn.stage for turn in host.run(disback, range(40))} == {"teacher"}
    assert "nothing is recorded, now or later, as attach() got no reset_fake_opt" in caplog.text
    assert caplog.messages[-1].startswith("long steps end")
    assert host.fake_optimizer.state
    assert measure.num_asked == 3  # nor looked at for nothing


def test_recording_ends_by_the_loss_at_its_own_beginning(tmp_path):
    host = ToyHost()
    record = {"num_steps": 4, "auto": {"noise": 1.0, "stop_at": 0.9}}
    measure = Measured(host, PATH)  # losses 81, 4 and 4; the fake score's 3.24 is below 0.9 of 4
    turns = host.run(attach(host, tmp_path, measure, record=record), range(6))
    assert [turn.stage for turn in turns][4:] == ["record", "teacher"]
    again = ToyHost()
    measure, record = Measured(again, PATH), {"num_steps": 4, "auto": {"stop_at": 0.5}}
    turns = again.run(attach(again, tmp_path / "longer", measure, record=record), range(9))
    assert [turn.stage for turn in turns][4:] == ["record"] * 4 + ["backtrack"]


def test_a_reset_that_does_not_bring_the_teacher_back_is_told(tmp_path, monkeypatch):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    monkeypatch.setattr(disback.installation, "reset_fake_score", lambda: None)
    with pytest.raises(InstallError, match="the fake score does not start as the teacher"):
        host.run(disback, range(6))


def test_what_is_asked_about_an_earlier_step_is_answered(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    host.run(disback, range(4))
    disback.begin_step(4)
    assert disback.metrics(3)["disback/stage"] == 2
    metrics = {}
    assert disback.end_step(3, metrics) is None
    assert metrics["disback/stage"] == 2
    assert disback.metrics(4)["disback/stage"] == 0


def test_a_student_updated_while_held_is_told(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    host.run(disback, range(4))
    disback.begin_step(4)
    host.train_step(4, True)
    with pytest.raises(SessionError, match="the student changed during recording"):
        disback.end_step(4)


def test_steps_before_the_recording_are_over(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    host.run(disback, range(5))
    with pytest.raises(SessionError, match="step 3 comes before step 4, where"):
        disback.begin_step(3)
