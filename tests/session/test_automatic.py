"""Automatic recording and the adaptive schedule in a session, and both on resume."""

import json
import logging

import pytest

from disback_plugin.errors import SessionError
from tests.session.measured import APART, TOGETHER
from tests.session.scripted import Script, attach
from tests.toy import ToyHost, same_roles


def test_a_teacher_that_knows_the_student_answers_from_the_first_step_on(tmp_path, caplog):
    caplog.set_level(logging.INFO, "disback")
    host, plain = ToyHost(), ToyHost()
    disback = attach(host, tmp_path, Script(host, 0.99))
    turns = host.run(disback, range(5))
    disback.close()
    plain.run(None, range(5))
    assert all(turn.update_student and turn.stage == "teacher" for turn in turns)
    assert not (tmp_path / "path").exists()
    assert same_roles(host, plain)
    assert [r.message for r in caplog.records] == [
        "the teacher knows the student's samples (loss 0.99, below 1): nothing is recorded, it "
        "answers from the first step on"
    ]
    again = attach(host, tmp_path, Script(host, 5.0))  # not asked again on resume
    again.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    assert again.begin_step(5).stage == "teacher"


def test_recording_leaves_noise_out_and_ends_when_near_enough(host, tmp_path, caplog):
    measure = Script(host, 10.0, fake=[8.0, 7.9, 1.9], nodes=[1.0] * 20)
    disback = attach(host, tmp_path, measure)
    turns = host.run(disback, range(5))
    assert [turn.stage for turn in turns] == ["record"] * 4 + ["backtrack"]
    assert disback.path is not None
    assert [node.step for node in disback.path] == [1, 4]  # 2 was noise, 6 was not needed
    assert disback.path.complete
    assert "recording step 2: no node is kept, it would be noise" in caplog.text


def test_a_warm_up_from_a_rate_of_0_costs_the_first_node(host, tmp_path, caplog):
    disback = attach(host, tmp_path, Script(host, 10.0, fake=[10.0, 8.0, 1.9], nodes=[1.0] * 20))
    host.run(disback, range(5))
    assert disback.path is not None
    assert [node.step for node in disback.path] == [2, 4]
    assert "recording step 1: no node is kept, it would be noise" in caplog.text


def test_updates_that_a_scaler_skips_cost_their_nodes(host, tmp_path):
    measure = Script(host, 10.0, fake=[10.0, 10.0, 8.0, 1.9], nodes=[1.0] * 20)
    disback = attach(host, tmp_path, measure)
    host.run(disback, range(7))
    assert disback.path is not None
    assert [node.step for node in disback.path] == [4, 6]


def test_a_fake_score_that_stands_still_is_told_within_four_nodes(host, tmp_path):
    record = {"num_steps": 100, "auto": {}}  # at 1 2 4 8 ...
    disback = attach(host, tmp_path, Script(host, 10.0, fake=[8.0] + [8.0] * 9), record=record)
    with pytest.raises(SessionError, match=r"after recording step 16 .* GradScaler skip"):
        host.run(disback, range(100))
    assert disback.state_dict()["progress"]["recording"]["still"] == 4


def test_what_measuring_costs_is_told_once_it_has_decided_and_at_the_end(host, tmp_path, caplog):
    caplog.set_level(logging.INFO, "disback")
    disback = attach(host, tmp_path, Script(host, 10.0, fake=[8.0, 1.9], nodes=[1.0] * 20))
    host.run(disback, range(3))
    disback.close()
    told = [r.message for r in caplog.records if r.message.startswith("measured ")]
    assert [line.partition(", in ")[0] for line in told] == [
        "measured 1 time, 16 samples of this rank in all",
        "measured 4 times, 64 samples of this rank in all",
    ]


@pytest.mark.parametrize(
    "changes", [{}, {"schedule": {"name": "fixed", "interval": 3}}, {"arm": "warm"}]
)
def test_a_teacher_that_pulls_all_samples_alike_answers_from_the_first_step_on(
    tmp_path, caplog, changes
):
    host, plain = ToyHost(), ToyHost()
    measure = Script(host, 9.0, pull=TOGETHER)
    disback = attach(host, tmp_path, measure, **changes)
    turns = host.run(disback, range(10))
    disback.close()
    plain.run(None, range(10))
    assert all(turn.update_student and turn.stage == "teacher" for turn in turns)
    assert same_roles(host, plain)
    assert measure.answers["real"] == []  # nothing is measured again
    assert not (tmp_path / "path").exists()
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        "the teacher pulls the student's samples all alike (100% of its pull is one shift and one "
        "scaling, at least 50%): nothing is recorded, it answers from the first step on"
    ]


@pytest.mark.parametrize("stop_at", [3, 5, 7])
def test_a_checkpoint_of_what_was_measured_needs_the_measure_again(tmp_path, stop_at):
    host = ToyHost()  # node 2 of a path would be noise, so that a path by the caps is another
    measure = Script(host, 9.0, fake=[8.0, 7.9, 4.0, 2.0], nodes=[2.0] * 9)
    disback = attach(host, tmp_path, measure)
    host.run(disback, range(stop_at))
    with pytest.raises(SessionError, match="was made with a measure: give attach\\(\\) one"):
        attach(ToyHost(), tmp_path, None).load_state_dict(disback.state_dict())


@pytest.mark.parametrize("measure", [None, "again"])
@pytest.mark.parametrize(("loss", "pull"), [(0.5, APART), (9.0, TOGETHER)])
def test_where_nothing_is_recorded_a_checkpoint_needs_no_measure(tmp_path, measure, loss, pull):
    host, again = ToyHost(), ToyHost()
    disback = attach(host, tmp_path, Script(host, loss, pull=pull))
    host.run(disback, range(2))
    resumed = attach(again, tmp_path, measure and Script(again, 9.0))
    resumed.load_state_dict(disback.state_dict())
    assert {turn.stage for turn in again.run(resumed, range(2, 5))} == {"teacher"}


def test_a_teacher_that_was_there_all_along_is_no_switch_after_a_resume(tmp_path):
    host, again = ToyHost(), ToyHost()
    record = {"num_steps": 2, "at": [1, 2]}
    disback = attach(host, tmp_path, None, arm="warm", record=record)
    assert [turn.switch for turn in host.run(disback, range(4))] == [None] * 4
    resumed = attach(again, tmp_path, None, arm="warm", record=record)
    resumed.load_state_dict(disback.state_dict())
    assert resumed.begin_step(4).switch is None


def test_a_path_at_once_is_told(host, tmp_path, caplog):
    attach(host, tmp_path, Script(host, 4.0)).begin_step(0)
    assert "a path is recorded: the teacher's loss on the student's samples is 4" in caplog.text


def test_with_a_single_node_the_teacher_answers(host, tmp_path, caplog):
    disback = attach(host, tmp_path, Script(host, 10.0, fake=[1.0]))
    turns = host.run(disback, range(3))
    assert [turn.stage for turn in turns] == ["record", "teacher", "teacher"]
    assert "one node: the teacher answers" in caplog.text


def test_the_walk_follows_the_measure(host, tmp_path):
    measure = Script(host, 9.0, fake=[8.0, 6.0, 4.0, 2.0], nodes=[2.0, 0.9, 2.0, 1.5, 2.0, 0.9])
    disback = attach(host, tmp_path, measure)
    turns = host.run(disback, range(16))
    # nodes 1 to 4 at 6 steps; node 3 halves in 2 steps, node 2 stays for its cap of 4
    assert [turn.node for turn in turns] == [0] * 6 + [3] * 2 + [2] * 4 + [1] * 2 + [0] * 2
    assert [turn.switch.node for turn in turns if turn.switch] == [3, 2, 1, 0]


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 7, 8, 11])
def test_resuming_decides_and_trains_the_same_bit_for_bit(tmp_path, stop_at):
    def losses(host):
        def measure(network):
            z = host.noise(999)
            x0 = host.student(z)
            return 30 * (network(x0 + 0.1 * z) - x0), x0

        return measure

    config = {"record": {"num_steps": 6, "auto": {"min_loss": 0.0, "noise": 1.0, "common": 1.0}}}
    whole = ToyHost()
    turns = whole.run(attach(whole, tmp_path / "whole", losses(whole), **config), range(16))
    host = ToyHost()
    disback = attach(host, tmp_path / "cut", losses(host), **config)
    first = host.run(disback, range(stop_at))
    again = ToyHost()
    resumed = attach(again, tmp_path / "cut", losses(again), **config)
    again.load(host)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    rest = again.run(resumed, range(stop_at, 16))
    assert [turn.node for turn in first + rest] == [turn.node for turn in turns]
    assert same_roles(whole, again)
