"""A session in a host's loop: stages, the held student, arms, logs."""

import logging
import threading

import pytest
import torch

from disback_plugin import DisBackConfig
from tests.session.common import attach, settings
from tests.toy import ToyHost, same, same_roles, tensors_of


def test_stages_and_nodes_follow_the_step(host, tmp_path):
    turns = host.run(attach(host, settings(tmp_path)), range(14))
    assert [turn.stage for turn in turns] == ["record"] * 6 + ["backtrack"] * 6 + ["teacher"] * 2
    assert [turn.node for turn in turns] == [0] * 6 + [3, 3, 2, 2, 1, 1, 0, 0]
    assert [turn.update_student for turn in turns] == [False] * 6 + [True] * 8
    assert [t.step for t in turns if t.switch] == [6, 8, 10, 12]


def test_steps_count_from_where_the_host_begins(host, tmp_path):
    turns = host.run(attach(host, settings(tmp_path)), range(1000, 1013))
    assert [turn.node for turn in turns] == [0] * 6 + [3, 3, 2, 2, 1, 1, 0]


def test_the_student_is_held_still_and_the_nodes_are_the_fake_score_then(host, disback):
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


def test_the_installed_teacher_equals_the_scheduled_node_at_every_step(host, tmp_path):
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
    assert same_roles(plain, attached)
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


def test_begin_step_and_end_step_are_idempotent(host, disback):
    for step in range(14):
        first = disback.begin_step(step)
        second = disback.begin_step(step)
        assert (first.node, first.stage) == (second.node, second.stage)
        assert second.switch is None
        host.train_step(step, first.update_student)
        disback.end_step(step)
        assert disback.end_step(step) is None
    assert len(disback.path) == 4


@pytest.mark.parametrize("codec", ["full", "delta", "bounded"])
def test_distances_of_a_bfloat16_teacher_are_the_paths_not_the_roundings(tmp_path, codec):
    # the same recording with a float32 and a bfloat16 teacher tells the same distances
    hosts = [ToyHost(), ToyHost(teacher_dtype=torch.bfloat16)]
    nodes = []
    for number, host in enumerate(hosts):
        disback = attach(host, settings(tmp_path / str(number), codec=codec))
        host.run(disback, range(6))
        nodes.append([entry.distance for entry in disback.path])
    assert nodes[0] == pytest.approx(nodes[1], rel=1e-6)


def test_each_switch_is_logged_once(host, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="disback"):
        host.run(attach(host, settings(tmp_path)), range(14))
    switches = [r.getMessage() for r in caplog.records if "real score: node" in r.getMessage()]
    assert [int(message.split()[3]) for message in switches] == [3, 2, 1, 0]
    assert switches[-1].startswith("real score: node 0 of 4 (the teacher), 6 of 9 tensors changed")


def test_metrics_go_into_the_hosts_log(host, disback):
    log = {}
    seen = []
    for step in range(13):
        turn = disback.begin_step(step)
        host.train_step(step, turn.update_student)
        disback.end_step(step, log)
        seen.append((log["disback/stage"], log["disback/node"]))
    assert seen == [(0, 0)] * 6 + [(1, 3)] * 2 + [(1, 2)] * 2 + [(1, 1)] * 2 + [(2, 0)]
    assert log["disback/distance"] == 0.0


def test_restore_teacher_brings_the_bytes_back_in_the_middle_of_the_path(host, tmp_path):
    original = tensors_of(host.teacher)
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(8))
    assert not same(tensors_of(host.teacher), original)
    disback.restore_teacher()
    assert same(tensors_of(host.teacher), original)
    assert disback.begin_step(8).switch.node == 2  # and the walk goes on


@pytest.mark.parametrize("codec", ["full", "delta", "bounded"])
def test_a_bfloat16_teacher_gets_every_node_and_its_bytes_back(tmp_path, codec):
    host = ToyHost(teacher_dtype=torch.bfloat16)
    original = tensors_of(host.teacher)
    turns = host.run(attach(host, settings(tmp_path, codec=codec)), range(14))
    switches = [turn.switch for turn in turns if turn.switch]
    assert [switch.node for switch in switches] == [3, 2, 1, 0]
    assert all(switch.changed_tensors > 0 for switch in switches)
    assert same(tensors_of(host.teacher), original)


@pytest.mark.parametrize("installation", ["in-place", "separate"])
def test_a_run_is_the_same_with_and_without_prefetch_and_leaves_no_thread(tmp_path, installation):
    hosts = []
    for prefetch in (True, False):
        host = ToyHost(teacher_dtype=torch.bfloat16)
        changes = {"installation": installation, "prefetch": prefetch}
        disback = attach(host, settings(tmp_path / str(prefetch), **changes))
        turns = host.run(disback, range(9))
        assert turns[-1].node == 2
        named = [thread.name for thread in threading.enumerate()]
        disback.close()
        assert not any("disback" in thread.name for thread in threading.enumerate()), named
        hosts.append(host)
    assert same_roles(*hosts)
