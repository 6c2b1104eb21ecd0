"""A path recorded in mid-run: resumed at any step, and in a folder that others use too."""

import copy
import json

import pytest
import torch

from disback_plugin.errors import ConfigError, PathError, SessionError
from disback_plugin.path import DegradationPath
from tests.hosts.toy import ToyHost, same, tensors_of
from tests.session.measured import APART, FAR, LATER, PATH, STAGES, Measured, attach


def continued(host, disback, folder, measure):
    """A new process that goes on from a checkpoint of the host and the session."""
    again = ToyHost()
    resumed = attach(again, folder, measure)
    again.load(host)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    measure.host = again
    return again, resumed


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


def test_a_path_from_mid_run_is_reused_with_a_warning(tmp_path, caplog):
    host = ToyHost()
    host.run(attach(host, tmp_path, Measured(host, PATH)), range(10))
    again = ToyHost()
    attach(again, tmp_path, None, record=None).begin_step(0)
    assert "it leads to the student of that moment, not to one at the start" in caplog.text
