"""A session in a host's loop: stages, the held student, resuming, reusing, and misuse."""

import json
import logging

import pytest
import torch

from disback_plugin import DegradationPath, DisBack, DisBackConfig, RecordConfig
from disback_plugin.errors import ConfigError, InstallError, PathError, SessionError
from tests.hosts.toy import ToyHost, network, same, tensors_of

RECORD = RecordConfig(num_steps=6, at=(1, 2, 4, 6))


def settings(folder, **changes):
    return DisBackConfig(
        **{
            "path": folder / "path",
            "record": RECORD,
            "schedule": {"name": "fixed", "interval": 2},
            **changes,
        }
    )


def attach(host, config):
    return DisBack.attach(roles=host.roles, config=config)


def test_stages_and_nodes_follow_the_step(tmp_path):
    host = ToyHost()
    turns = host.run(attach(host, settings(tmp_path)), range(14))
    assert [turn.stage for turn in turns] == ["record"] * 6 + ["backtrack"] * 6 + ["teacher"] * 2
    assert [turn.node for turn in turns] == [0] * 6 + [3, 3, 2, 2, 1, 1, 0, 0]
    assert [turn.update_student for turn in turns] == [False] * 6 + [True] * 8
    assert [t.step for t in turns if t.switch] == [6, 8, 10, 12]


def test_steps_count_from_where_the_host_begins(tmp_path):
    host = ToyHost()
    turns = host.run(attach(host, settings(tmp_path)), range(1000, 1013))
    assert [turn.node for turn in turns] == [0] * 6 + [3, 3, 2, 2, 1, 1, 0]


def test_the_student_is_held_still_and_the_nodes_are_the_fake_score_then(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    student, recorded = tensors_of(host.student), {}
    for step in range(6):
        host.run(disback, range(step, step + 1))
        recorded[step + 1] = tensors_of(host.fake_score)
        assert same(tensors_of(host.student), student)
    path = disback.path
    assert path.complete
    assert [entry.step for entry in path] == [1, 2, 4, 6]
    for entry in path:
        assert same(path.read(entry.index), recorded[entry.step])
    distances = [entry.distance for entry in path]
    assert distances == sorted(distances)
    assert len(set(distances)) == 4
    host.run(disback, range(6, 8))
    assert not same(tensors_of(host.student), student)


def test_the_installed_teacher_equals_the_scheduled_node_at_every_step(tmp_path):
    host = ToyHost()
    original = tensors_of(host.teacher)
    disback = attach(host, settings(tmp_path))
    for step in range(14):
        turn = host.run(disback, range(step, step + 1))[0]
        expected = disback.path.read(turn.node) if turn.node else original
        assert same(tensors_of(host.teacher), expected)


@pytest.mark.parametrize("arm", ["fixed", None])
def test_without_disback_or_inactive_the_loop_is_bit_identical(tmp_path, arm):
    plain, attached = ToyHost(), ToyHost()
    plain.run(None, range(10))
    session = attach(attached, DisBackConfig(arm="fixed")) if arm else None
    attached.run(session, range(10))
    for role in plain.roles:
        assert same(tensors_of(plain.roles[role]), tensors_of(attached.roles[role]))
    assert list(tmp_path.iterdir()) == []


def test_arm_warm_records_the_same_path_and_keeps_the_teacher(tmp_path):
    hosts = {arm: ToyHost() for arm in ("disback", "warm")}
    sessions = {}
    for arm, host in hosts.items():
        sessions[arm] = attach(host, settings(tmp_path / arm, arm=arm))
        host.run(sessions[arm], range(6))
    assert same(*(tensors_of(host.fake_score) for host in hosts.values()))
    turns = hosts["warm"].run(sessions["warm"], range(6, 12))
    assert {turn.stage for turn in turns} == {"teacher"}
    assert all(turn.switch is None for turn in turns)
    first, second = (session.path for session in sessions.values())
    assert [e.sha256 for e in first] == [e.sha256 for e in second]


def test_the_global_random_state_is_never_touched(tmp_path):
    host = ToyHost(teacher_dtype=torch.bfloat16)  # stochastic rounding draws numbers
    before = torch.get_rng_state()
    host.run(attach(host, settings(tmp_path)), range(14))
    assert torch.equal(before, torch.get_rng_state())


def test_begin_step_and_end_step_are_idempotent(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    for step in range(14):
        first = disback.begin_step(step)
        second = disback.begin_step(step)
        assert (first.node, first.stage) == (second.node, second.stage)
        assert second.switch is None
        host.train_step(step, first.update_student)
        disback.end_step(step)
        assert disback.end_step(step) is None
    assert len(disback.path) == 4


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
    checkpoint = {
        "roles": {name: tensors_of(role) for name, role in host.roles.items()},
        "optimizers": [
            json.loads(json.dumps(o.state_dict()["param_groups"]))
            for o in (host.fake_optimizer, host.student_optimizer)
        ],
        "states": [o.state_dict() for o in (host.fake_optimizer, host.student_optimizer)],
        "disback": json.loads(json.dumps(disback.state_dict())),
    }
    import copy

    checkpoint = copy.deepcopy(checkpoint)
    host.run(disback, range(saved, kill_at))

    again = ToyHost()
    resumed = attach(again, settings(tmp_path / "killed")) if saved else None
    if saved == 0:  # no checkpoint yet: the run starts again in a fresh folder
        resumed = attach(again, settings(tmp_path / "again"))
    else:
        for name, role in again.roles.items():  # the teacher too: it may hold a node
            role.load_state_dict(checkpoint["roles"][name])
        again.fake_optimizer.load_state_dict(checkpoint["states"][0])
        again.student_optimizer.load_state_dict(checkpoint["states"][1])
        resumed.load_state_dict(checkpoint["disback"])
    again.run(resumed, range(saved, 15))
    for role in whole.roles:
        assert same(tensors_of(whole.roles[role]), tensors_of(again.roles[role])), role
    folder = "killed" if saved else "again"
    first = DegradationPath.open(tmp_path / "whole" / "path")
    second = DegradationPath.open(tmp_path / folder / "path")
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
    turns = host.run(disback, range(8))
    assert [turn.node for turn in turns] == [3, 3, 2, 2, 1, 1, 0, 0]

    state = disback.state_dict()
    resumed = attach(ToyHost(), settings(tmp_path, record=None))
    resumed.load_state_dict(state)
    assert resumed.begin_step(5).node == 1


def test_reusing_with_other_recording_settings_is_refused(tmp_path):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(6))
    other = settings(tmp_path, record=RecordConfig(num_steps=6, every=2))
    with pytest.raises(ConfigError, match="was recorded with .*leave 'record' out"):
        attach(ToyHost(), other).begin_step(0)


def test_an_unfinished_path_is_not_reused_silently(tmp_path):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(3))
    with pytest.raises(SessionError, match=r"unfinished path \(2 nodes\): resume the run"):
        attach(ToyHost(), settings(tmp_path)).begin_step(0)


def test_the_path_of_another_teacher_is_refused(tmp_path):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(6))
    other = ToyHost()
    other.teacher = network(4)
    with pytest.raises(PathError, match="another teacher"):
        attach(other, settings(tmp_path, record=None)).begin_step(0)


def test_no_path_and_no_recording_settings_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="holds no path and no recording is configured"):
        attach(ToyHost(), settings(tmp_path, record=None)).begin_step(0)


def test_a_student_that_moves_during_recording_is_noticed(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    with pytest.raises(SessionError, match="the student changed during recording"):
        for step in range(6):
            disback.begin_step(step)
            host.train_step(step, update_student=True)  # ignores turn.update_student
            disback.end_step(step)


def test_a_path_led_astray_by_a_moving_student_is_never_complete(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    for step in range(2):
        host.run(disback, range(step, step + 1))
    disback.begin_step(2)
    host.train_step(2, update_student=True)
    disback.end_step(2)  # no node is due here, so it shows at the next one
    disback.begin_step(3)
    host.train_step(3, update_student=False)
    with pytest.raises(SessionError, match="the student changed"):
        disback.end_step(3)
    path = DegradationPath.open(tmp_path / "path")
    assert (len(path), path.complete) == (2, False)


def test_a_fake_score_that_does_not_start_as_the_teacher_is_refused(tmp_path):
    host = ToyHost()
    with torch.no_grad():
        host.fake_score[3].bias[0] += 1e-3
    with pytest.raises(InstallError, match=r"does not start as the teacher \(tensor '3.bias'"):
        attach(host, settings(tmp_path)).begin_step(0)
    assert list(tmp_path.iterdir()) == []


def test_a_path_of_another_initial_student_is_not_reused_unasked(tmp_path):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(6))
    other = ToyHost()
    other.student = network(7)
    with pytest.raises(ConfigError, match="another initial student: leave 'record' out"):
        attach(other, settings(tmp_path)).begin_step(0)
    assert attach(other, settings(tmp_path, record=None)).begin_step(0).node == 3


def test_reusing_a_path_is_said_aloud(tmp_path, caplog):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(6))
    attach(ToyHost(), settings(tmp_path)).begin_step(0)
    assert "nothing is recorded, the fake score starts from node 4" in caplog.text


def test_a_missing_node_is_found_when_the_path_is_opened_not_when_it_is_due(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(7))
    state = disback.state_dict()
    (tmp_path / "path" / "node_0001.safetensors").unlink()
    with pytest.raises(PathError, match="node_0001.safetensors is missing"):
        attach(ToyHost(), settings(tmp_path, record=None)).begin_step(0)
    with pytest.raises(PathError, match="node_0001.safetensors is missing"):
        attach(ToyHost(), settings(tmp_path)).load_state_dict(state)


def test_leftovers_of_a_kill_are_gone_after_the_resume(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(3))
    (tmp_path / "path" / ".tmp-1-node_0003.safetensors").write_bytes(b"half")
    again = attach(ToyHost(), settings(tmp_path))
    again.load_state_dict(disback.state_dict())
    assert again.path.verify() == []


def test_recording_that_skipped_its_last_nodes_is_not_complete(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path, record=RecordConfig(num_steps=6, at=(2, 4, 5))))
    for step in (0, 1, 2, 5):
        turn = disback.begin_step(step)
        host.train_step(step, turn.update_student)
        if step < 5:
            disback.end_step(step)
    with pytest.raises(SessionError, match="ends with 1 of 3 nodes: steps were skipped"):
        disback.end_step(5)
    assert not disback.path.complete


@pytest.mark.parametrize("codec", ["full", "delta"])
def test_distances_of_a_bfloat16_teacher_are_the_paths_not_the_roundings(tmp_path, codec):
    # the same recording with a float32 and a bfloat16 teacher tells the same distances
    hosts = [ToyHost(), ToyHost(teacher_dtype=torch.bfloat16)]
    nodes = []
    for number, host in enumerate(hosts):
        disback = attach(host, settings(tmp_path / str(number), codec=codec))
        host.run(disback, range(6))
        nodes.append([entry.distance for entry in disback.path])
    assert nodes[0] == pytest.approx(nodes[1], rel=1e-6)


def test_a_fake_score_that_does_not_train_is_noticed_under_a_bfloat16_teacher_too(tmp_path):
    host = ToyHost(teacher_dtype=torch.bfloat16)
    disback = attach(host, settings(tmp_path))
    disback.begin_step(0)
    with pytest.raises(PathError, match="equals the teacher"):
        disback.end_step(0)


def test_a_fake_score_that_does_not_train_is_noticed(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    disback.begin_step(0)
    with pytest.raises(PathError, match="equals the teacher: the fake score is not being trained"):
        disback.end_step(0)


def test_skipped_recording_steps_are_noticed(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(1))
    disback.begin_step(3)
    host.train_step(3, False)
    with pytest.raises(SessionError, match="node 3 is due .* holds 1 nodes: steps were skipped"):
        disback.end_step(3)
    with pytest.raises(SessionError, match="recording has not ended"):
        disback.begin_step(6)


def test_calls_out_of_order_are_refused(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    with pytest.raises(SessionError, match="before the first begin_step"):
        disback.end_step(0)
    disback.begin_step(5)
    with pytest.raises(SessionError, match="step 4 comes before the first"):
        disback.begin_step(4)
    with pytest.raises(SessionError, match="before the first begin_step"):
        disback.load_state_dict(disback.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(version=9), "version 9"),
        (lambda state: state.update(teacher="x"), "another teacher"),
        (lambda state: state["settings"].update(arm="warm"), "arm: warm -> disback"),
        (lambda state: state["settings"]["schedule"].update(interval=9), "schedule: .*9"),
    ],
)
def test_a_state_of_another_run_is_refused(tmp_path, change, message):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(7))
    state = json.loads(json.dumps(disback.state_dict()))
    change(state)
    with pytest.raises(SessionError, match=message):
        attach(ToyHost(), settings(tmp_path)).load_state_dict(state)


def test_resuming_without_the_nodes_is_refused(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(5))
    state = disback.state_dict()
    disback.path.truncate(1)
    with pytest.raises(SessionError, match="made after 3 nodes, but .* holds 1"):
        attach(ToyHost(), settings(tmp_path)).load_state_dict(state)


def test_a_session_that_never_switched_warns_at_the_end(tmp_path, caplog):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(4))
    disback.close()
    assert "never installed a node" in caplog.text
    caplog.clear()
    host.run(disback, range(4, 8))
    disback.close()
    assert caplog.text == ""


def test_each_switch_is_logged_once(tmp_path, caplog):
    host = ToyHost()
    with caplog.at_level(logging.INFO, logger="disback"):
        host.run(attach(host, settings(tmp_path)), range(14))
    switches = [r.getMessage() for r in caplog.records if "real score: node" in r.getMessage()]
    assert [int(message.split()[3]) for message in switches] == [3, 2, 1, 0]
    assert switches[-1].startswith("real score: node 0 of 4 (the teacher), 6 of 9 tensors changed")


def test_metrics_go_into_the_hosts_log(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    log = {}
    seen = []
    for step in range(13):
        turn = disback.begin_step(step)
        host.train_step(step, turn.update_student)
        disback.end_step(step, log)
        seen.append((log["disback/stage"], log["disback/node"]))
    assert seen == [(0, 0)] * 6 + [(1, 3)] * 2 + [(1, 2)] * 2 + [(1, 1)] * 2 + [(2, 0)]
    assert log["disback/distance"] == 0.0


def test_restore_teacher_brings_the_bytes_back_in_the_middle_of_the_path(tmp_path):
    host = ToyHost()
    original = tensors_of(host.teacher)
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(8))
    assert not same(tensors_of(host.teacher), original)
    disback.restore_teacher()
    assert same(tensors_of(host.teacher), original)
    assert disback.begin_step(8).switch.node == 2  # and the walk goes on


@pytest.mark.parametrize("codec", ["full", "delta"])
def test_a_bfloat16_teacher_gets_every_node_and_its_bytes_back(tmp_path, codec):
    host = ToyHost(teacher_dtype=torch.bfloat16)
    original = tensors_of(host.teacher)
    turns = host.run(attach(host, settings(tmp_path, codec=codec)), range(14))
    switches = [turn.switch for turn in turns if turn.switch]
    assert [switch.node for switch in switches] == [3, 2, 1, 0]
    assert all(switch.changed_tensors > 0 for switch in switches)
    assert same(tensors_of(host.teacher), original)
