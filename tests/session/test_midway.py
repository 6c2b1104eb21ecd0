"""A path that is recorded where long steps end: in a session, on resume, in a folder in use."""

import copy
import json
import logging

import pytest
import torch

from disback_plugin.errors import ConfigError, InstallError, PathError, SessionError
from disback_plugin.path import DegradationPath
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


def continued(host, disback, folder, measure):
    """A new process that goes on from a checkpoint of the host and the session."""
    again = ToyHost()
    resumed = attach(again, folder, measure)
    again.load(host)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    measure.host = again
    return again, resumed


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


def test_a_path_from_mid_run_is_reused_with_a_warning(tmp_path, caplog):
    host = ToyHost()
    host.run(attach(host, tmp_path, Measured(host, PATH)), range(10))
    again = ToyHost()
    attach(again, tmp_path, None, record=None).begin_step(0)
    assert "it leads to the student of that moment, not to one at the start" in caplog.text


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


def test_a_checkpoint_that_waits_needs_the_way_to_reset_again(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    host.run(disback, range(2))
    again = ToyHost()
    with pytest.raises(SessionError, match="waits for a path to record: give attach"):
        attach(again, tmp_path, Measured(again, []), reset=None).load_state_dict(
            disback.state_dict()
        )
    host.run(disback, range(2, 10))  # nothing waits once the path is there
    attach(again, tmp_path, Measured(again, []), reset=None).load_state_dict(disback.state_dict())


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


@pytest.mark.parametrize("stop_at", range(1, 15))
def test_a_resumed_run_equals_the_whole_one_bit_for_bit(tmp_path, stop_at):
    whole, host = ToyHost(), ToyHost()
    uncut = attach(whole, tmp_path / "whole", Measured(whole, PATH))
    turns = whole.run(uncut, range(15))
    measure = Measured(host, PATH)
    disback = attach(host, tmp_path / "cut", measure)
    first = host.run(disback, range(stop_at))
    again, resumed = continued(host, disback, tmp_path / "cut", measure)
    asked = resumed.begin_step(stop_at - 1)  # as a host may, to install the node again
    assert (asked.stage, asked.node) == (first[-1].stage, first[-1].node)
    rest = again.run(resumed, range(stop_at, 15))
    assert [turn.node for turn in first + rest] == [turn.node for turn in turns]
    assert [turn.stage for turn in first + rest] == STAGES
    for name in whole.roles:
        assert same(tensors_of(whole.roles[name]), tensors_of(again.roles[name])), name
    assert resumed.state_dict() == uncut.state_dict()


@pytest.mark.parametrize("stop_at", [3, 5, 6, 9, 11, 13])
def test_beside_a_teacher_in_bfloat16_it_is_resumed_bit_for_bit_too(tmp_path, stop_at):
    def host_of(settings):
        host = ToyHost(teacher_dtype=torch.bfloat16)
        with torch.no_grad():  # the fake score starts where the teacher was cast from
            host.teacher.load_state_dict(host.fake_score.state_dict())
        return host, attach(
            host, tmp_path / settings, Measured(host, PATH), installation="separate"
        )

    whole, uncut = host_of("whole")
    turns = whole.run(uncut, range(15))
    host, disback = host_of("cut")
    first = host.run(disback, range(stop_at))
    again, resumed = host_of("cut")
    again.load(host)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    resumed._judge._measure.pulls = PATH[3 - len(disback._judge._measure.pulls) :]
    resumed._judge._measure.fake = disback._judge._measure.fake
    rest = again.run(resumed, range(stop_at, 15))
    assert [turn.node for turn in first + rest] == [turn.node for turn in turns]
    for name in whole.roles:
        assert same(tensors_of(whole.roles[name]), tensors_of(again.roles[name])), name


@pytest.mark.parametrize("reached", [5, 7, 10])
def test_a_path_recorded_after_the_checkpoint_is_recorded_again(tmp_path, reached, caplog):
    host = ToyHost()
    measure = Measured(host, PATH)
    disback = attach(host, tmp_path, measure)
    host.run(disback, range(3))
    state = copy.deepcopy(disback.state_dict())
    saved = {name: copy.deepcopy(role.state_dict()) for name, role in host.roles.items()}
    host.run(disback, range(3, reached))  # killed here, after its last checkpoint
    recorded = (tmp_path / "path" / "path.json").read_text()
    again = ToyHost()
    resumed = attach(again, tmp_path, Measured(again, PATH[2:]))
    for name, role in again.roles.items():
        role.load_state_dict(saved[name])
    resumed.load_state_dict(state)
    assert (tmp_path / "path" / "path.json").read_text() == recorded  # loading destroys nothing
    assert [turn.stage for turn in again.run(resumed, range(3, 15))] == STAGES[3:]
    assert "was recorded after the checkpoint; it is recorded again" in caplog.text
    path = DegradationPath.open(tmp_path / "path")
    assert [node.step for node in path] == [1, 2, 4]
    assert path.verify() == []


def test_a_path_of_somebody_else_in_the_folder_is_not_touched(tmp_path):
    host, other = ToyHost(), ToyHost()
    disback = attach(host, tmp_path / "ours", Measured(host, PATH))
    host.run(disback, range(3))
    record = {"num_steps": 2, "at": [1, 2]}
    other.run(attach(other, tmp_path / "other", None, record=record), range(4))
    (tmp_path / "ours").mkdir()
    (tmp_path / "other" / "path").rename(tmp_path / "ours" / "path")
    with pytest.raises(PathError, match="already holds a path"):
        host.run(disback, range(3, 6))
    assert len(DegradationPath.open(tmp_path / "ours" / "path")) == 2


def test_a_second_run_in_the_same_folder_does_not_touch_the_firsts_path(tmp_path):
    first, second = ToyHost(), ToyHost(seed=1)
    disback = attach(first, tmp_path, Measured(first, PATH))
    other = attach(second, tmp_path, Measured(second, [FAR, LATER, LATER, 2.0 * APART]))
    first.run(disback, range(2))
    second.run(other, range(2))  # both wait
    first.run(disback, range(2, 10))
    with pytest.raises(PathError, match="already holds a path"):
        second.run(other, range(2, 10))
    assert {turn.stage for turn in first.run(disback, range(10, 15))} == {"backtrack", "teacher"}
    assert disback.path.verify() == []


def test_a_checkpoint_of_another_recording_is_refused(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH))
    host.run(disback, range(3))
    early = copy.deepcopy(disback.state_dict())
    host.run(disback, range(3, 9))
    late = copy.deepcopy(disback.state_dict())
    again = ToyHost(seed=1)  # goes on from before the recording, and comes to another student
    resumed = attach(again, tmp_path, Measured(again, PATH[2:]))
    resumed.load_state_dict(early)
    again.run(resumed, range(3, 10))
    with pytest.raises(SessionError, match="was recorded for another student than the checkpoint"):
        attach(ToyHost(), tmp_path, Measured(host, [])).load_state_dict(late)


def test_a_new_run_does_not_start_on_a_path_from_mid_run(tmp_path):
    host = ToyHost()
    host.run(attach(host, tmp_path, Measured(host, PATH)), range(10))
    again = ToyHost()
    with pytest.raises(ConfigError, match="recorded in mid-run, from step 4 on, for the student"):
        attach(again, tmp_path, Measured(again, PATH)).begin_step(0)


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
