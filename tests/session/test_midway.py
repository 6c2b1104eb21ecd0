"""A path that is recorded where long steps end: in a session, on resume, in a folder in use."""

import copy
import json
import logging

import pytest
import torch

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.errors import ConfigError, PathError, SessionError
from disback_plugin.path import DegradationPath
from tests.hosts.toy import ToyHost, same, tensors_of

RECORD = {"num_steps": 4, "auto": {"noise": 1.0, "stop_at": 0.01}}  # nodes after 1, 2 and 4 steps
SCHEDULE = {"name": "adaptive", "cap": 2, "every": 5}
SAMPLES = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
APART = 2**0.5 * SAMPLES.flip(1) * torch.tensor([1.0, -1.0])  # a rotation: nothing in common
TOGETHER = torch.ones(4, 2)  # one shift
FAR, LATER = 9.0 * TOGETHER, 2.0 * TOGETHER  # pulls
PATH = [FAR, LATER, 2.0 * APART]  # long steps at steps 0 to 3, a path from step 4 on
STAGES = ["teacher"] * 4 + ["record"] * 4 + ["backtrack"] * 4 + ["teacher"] * 3


class Measured:
    """The teacher's pulls in order, then a small one for nodes; the fake score's loss falls."""

    def __init__(self, host, pulls):
        self.host, self.pulls, self.fake, self.num_asked = host, list(pulls), 2.0, 0

    def __call__(self, network):
        self.num_asked += 1
        if network is self.host.fake_score:
            self.fake *= 0.9
            return self.fake * APART, SAMPLES
        return (self.pulls.pop(0) if self.pulls else APART), SAMPLES


def attach(host, folder, measure, **changes):
    settings = {"record": RECORD, "schedule": SCHEDULE, "path": folder / "path"}
    reset = changes.pop("reset", lambda: host.fake_optimizer.state.clear())
    config = DisBackConfig(**{**settings, **changes})
    return DisBack.attach(
        roles=host.roles, config=config, measure=measure, reset_fake_optimizer=reset
    )


def continued(host, disback, folder, measure):
    """A new process that goes on from a checkpoint of the host and the session."""
    again = ToyHost()
    resumed = attach(again, folder, measure)
    for name, role in again.roles.items():
        role.load_state_dict(copy.deepcopy(host.roles[name].state_dict()))
    for name in ("fake_optimizer", "student_optimizer"):
        getattr(again, name).load_state_dict(copy.deepcopy(getattr(host, name).state_dict()))
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


@pytest.mark.parametrize("last", [0.3 * TOGETHER, 0.3 * APART, float("nan") * TOGETHER])
def test_where_no_path_would_help_the_teacher_answers_for_good(tmp_path, last, caplog):
    host = ToyHost()
    measure = Measured(host, [FAR, LATER, last])
    disback = attach(host, tmp_path, measure)
    turns = host.run(disback, range(20))
    assert [turn.stage for turn in turns] == ["teacher"] * 20
    assert [turn.student_lr_factor for turn in turns] == [3.0] * 4 + [1.0] * 16
    assert not (tmp_path / "path").exists()
    assert measure.num_asked == 3
    assert caplog.messages[-1] == "long steps end: student_lr_factor is 1 from step 4 on"
    resumed = attach(ToyHost(), tmp_path, None)  # nothing is left to measure
    resumed.load_state_dict(disback.state_dict())
    assert resumed.begin_step(20).stage == "teacher"


@pytest.mark.parametrize("stride", [1.0, 3.0])
def test_a_path_is_waited_for_while_all_samples_are_pulled_alike(tmp_path, stride):
    host = ToyHost()
    measure = Measured(host, [FAR, 1.1 * FAR, LATER, 2.0 * APART])
    disback = attach(host, tmp_path, measure, schedule={**SCHEDULE, "stride": stride})
    turns = host.run(disback, range(13))  # looked at at the steps 0, 2, 4 and 8
    assert [turn.stage for turn in turns] == ["teacher"] * 8 + ["record"] * 4 + ["backtrack"]
    assert [turn.student_lr_factor for turn in turns] == [stride] * 2 + [1.0] * 11
    assert disback.path.manifest.recording["begun_at"] == 8


def test_without_a_way_to_reset_the_optimizer_nothing_is_recorded(tmp_path, caplog):
    host = ToyHost()
    disback = attach(host, tmp_path, Measured(host, PATH), reset=None)
    assert {turn.stage for turn in host.run(disback, range(8))} == {"teacher"}
    assert "if attach() had a reset_fake_optimizer" in caplog.messages[-1]
    assert host.fake_optimizer.state


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


def test_a_new_run_does_not_start_on_a_path_from_mid_run(tmp_path):
    host = ToyHost()
    host.run(attach(host, tmp_path, Measured(host, PATH)), range(10))
    again = ToyHost()
    with pytest.raises(ConfigError, match="was recorded in mid-run, from step 4 on: leave"):
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
    with pytest.raises(SessionError, match="step 3 comes before"):
        disback.begin_step(3)
