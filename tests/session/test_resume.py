"""Stopping, resuming and reusing a path: the same run bit for bit, or a clear refusal."""

import copy
import json

import pytest

from disback_plugin import DegradationPath, RecordConfig
from disback_plugin.errors import ConfigError, PathError, SessionError
from tests.session.common import attach, settings
from tests.toy import ToyHost, network, same, same_roles, tensors_of


@pytest.mark.parametrize("kill_at", [0, 1, 3, 5, 6, 7, 9, 11, 13])
@pytest.mark.parametrize("lag", [0, 2])
def test_resuming_gives_the_same_run_bit_for_bit(tmp_path, kill_at, lag):
    whole = ToyHost()
    whole.run(attach(whole, settings(tmp_path / "whole")), range(15))

    # the checkpoint is `lag` steps older than the crash: nodes recorded meanwhile are dropped
    saved = max(kill_at - lag, 0)
    host = ToyHost()
    disback = attach(host, settings(tmp_path / "killed"))
    host.run(disback, range(saved))
    held, state = copy.deepcopy(host), json.loads(json.dumps(disback.state_dict()))
    host.run(disback, range(saved, kill_at))

    again, folder = ToyHost(), tmp_path / ("killed" if saved else "again")
    resumed = attach(again, settings(folder))
    if saved:  # else no checkpoint yet: the run starts again in a fresh folder
        again.load(held)  # the teacher too: it may hold a node
        resumed.load_state_dict(state)
    again.run(resumed, range(saved, 15))
    assert same_roles(whole, again)
    first = DegradationPath.open(tmp_path / "whole" / "path")
    second = DegradationPath.open(folder / "path")
    assert [e.sha256 for e in first] == [e.sha256 for e in second]


def test_a_recorded_path_is_reused_and_the_fake_score_starts_at_its_last_node(tmp_path):
    recorder = ToyHost()
    host_steps = attach(recorder, settings(tmp_path))
    recorder.run(host_steps, range(6))
    last = tensors_of(recorder.fake_score)

    host = ToyHost()
    disback = attach(host, settings(tmp_path, record=None))
    turn = disback.begin_step(0)
    assert (turn.stage, turn.node, turn.update_student) == ("backtrack", 3, True)
    assert same(tensors_of(host.fake_score), last)
    turns = host.run(disback, range(5))
    state = disback.state_dict()
    turns += host.run(disback, range(5, 8))
    assert [turn.node for turn in turns] == [3, 3, 2, 2, 1, 1, 0, 0]

    resumed = attach(ToyHost(), settings(tmp_path, record=None))
    resumed.load_state_dict(state)
    assert resumed.begin_step(5).node == 1


def test_reusing_with_other_recording_settings_is_refused(recorded, tmp_path):
    other = settings(tmp_path, record=RecordConfig(num_steps=6, every=2))
    with pytest.raises(ConfigError, match="was recorded with .*leave 'record' out"):
        attach(ToyHost(), other).begin_step(0)


def test_an_unfinished_path_is_not_reused_silently(host, tmp_path):
    host.run(attach(host, settings(tmp_path)), range(3))
    with pytest.raises(SessionError, match=r"unfinished path \(2 nodes\): resume the run"):
        attach(ToyHost(), settings(tmp_path)).begin_step(0)


def test_the_path_of_another_teacher_is_refused(recorded, tmp_path):
    other = ToyHost()
    other.teacher = network(4)
    with pytest.raises(PathError, match="another teacher"):
        attach(other, settings(tmp_path, record=None)).begin_step(0)


def test_a_path_of_another_initial_student_is_not_reused_unasked(recorded, tmp_path):
    other = ToyHost()
    other.student = network(7)
    with pytest.raises(ConfigError, match="another initial student .*: leave 'record' out"):
        attach(other, settings(tmp_path)).begin_step(0)
    assert attach(other, settings(tmp_path, record=None)).begin_step(0).node == 3


def test_reusing_a_path_is_said_aloud(recorded, tmp_path, caplog):
    attach(ToyHost(), settings(tmp_path)).begin_step(0)
    assert "nothing is recorded, the fake score starts from node 4" in caplog.text


def test_a_missing_node_is_found_when_the_path_is_opened_not_when_it_is_due(
    host, disback, tmp_path
):
    host.run(disback, range(7))
    state = disback.state_dict()
    (tmp_path / "path" / "node_0001.safetensors").unlink()
    with pytest.raises(PathError, match="node_0001.safetensors is missing"):
        attach(ToyHost(), settings(tmp_path, record=None)).begin_step(0)
    with pytest.raises(PathError, match="node_0001.safetensors is missing"):
        attach(ToyHost(), settings(tmp_path)).load_state_dict(state)


def test_leftovers_of_a_kill_are_gone_after_the_resume(host, disback, tmp_path):
    host.run(disback, range(3))
    (tmp_path / "path" / ".tmp-1-node_0003.safetensors").write_bytes(b"half")
    again = attach(ToyHost(), settings(tmp_path))
    again.load_state_dict(disback.state_dict())
    assert again.path.verify() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(version=9), "version 9"),
        (lambda state: state.update(teacher="x"), "another teacher"),
        (lambda state: state["settings"].update(arm="warm"), "arm: warm -> disback"),
        (lambda state: state["settings"]["schedule"].update(interval=9), "schedule: .*9"),
    ],
)
def test_a_state_of_another_run_is_refused(host, disback, tmp_path, change, message):
    host.run(disback, range(7))
    state = json.loads(json.dumps(disback.state_dict()))
    change(state)
    with pytest.raises(SessionError, match=message):
        attach(ToyHost(), settings(tmp_path)).load_state_dict(state)


def test_resuming_without_the_nodes_is_refused(host, disback, tmp_path):
    host.run(disback, range(5))
    state = disback.state_dict()
    disback.path.truncate(1)
    with pytest.raises(SessionError, match="made after 3 nodes, but .* holds 1"):
        attach(ToyHost(), settings(tmp_path)).load_state_dict(state)


def test_loading_an_old_checkpoint_alone_destroys_no_node(host, disback, tmp_path, caplog):
    host.run(disback, range(3))
    early = json.loads(json.dumps(disback.state_dict()))
    fake_score = tensors_of(host.fake_score)
    host.run(disback, range(3, 7))
    again = ToyHost()
    again.fake_score.load_state_dict(fake_score)
    resumed = attach(again, settings(tmp_path))
    resumed.load_state_dict(early)
    resumed.begin_step(3)
    assert len(DegradationPath.open(tmp_path / "path")) == 4
    assert DegradationPath.open(tmp_path / "path").complete
    assert "recorded again" not in caplog.text
    again.run(resumed, range(3, 4))
    assert "nodes 3 to 4 were recorded after the checkpoint" in caplog.text
    path = DegradationPath.open(tmp_path / "path")
    assert ([entry.step for entry in path], path.complete) == ([1, 2, 4], False)
