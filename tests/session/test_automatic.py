"""Automatic recording and the adaptive schedule in a session, and both on resume."""

import copy
import json
import logging

import pytest
import torch

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.errors import SessionError
from tests.hosts.toy import ToyHost, same, tensors_of

AUTO = {"num_steps": 6, "auto": {"stop_at": 0.2, "noise": 0.9, "parallel": 1.0}}  # at 1 2 4 6
ADAPTIVE = {"name": "adaptive", "cap": 4, "every": 2, "reached": 0.5, "known": 0.0}


class Script:
    """A measure that answers from lists: the fake score's losses, and the real score's."""

    def __init__(self, host, teacher, fake=(), nodes=()):
        self.host, self.answers = host, {"fake": list(fake), "real": [teacher, *nodes]}

    def __call__(self, network):
        loss = self.answers["fake" if network is self.host.fake_score else "real"].pop(0)
        return torch.tensor([loss]).sqrt()


def attach(host, folder, measure, reset=None, **changes):
    settings = {"record": AUTO, "schedule": ADAPTIVE, "path": folder / "path", **changes}
    return DisBack.attach(
        roles=host.roles,
        config=DisBackConfig(**settings),
        measure=measure,
        reset_fake_optimizer=reset,
    )


def test_a_teacher_that_knows_the_student_answers_from_the_first_step_on(tmp_path, caplog):
    host, plain = ToyHost(), ToyHost()
    disback = attach(host, tmp_path, Script(host, 0.99))
    turns = host.run(disback, range(5))
    disback.close()
    plain.run(None, range(5))
    assert all(turn.update_student and turn.stage == "teacher" for turn in turns)
    assert not (tmp_path / "path").exists()
    assert all(same(tensors_of(host.roles[r]), tensors_of(plain.roles[r])) for r in host.roles)
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        "the teacher knows the student's samples (loss 0.99, below min_loss 1): nothing is "
        "recorded, it answers from the first step on"
    ]
    again = attach(host, tmp_path, Script(host, 5.0))  # not asked again on resume
    again.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    assert again.begin_step(5).stage == "teacher"


def test_recording_leaves_noise_out_and_ends_when_near_enough(tmp_path, caplog):
    host = ToyHost()
    measure = Script(host, 10.0, fake=[8.0, 7.9, 1.9], nodes=[1.0] * 20)
    disback = attach(host, tmp_path, measure)
    turns = host.run(disback, range(5))
    assert [turn.stage for turn in turns] == ["record"] * 4 + ["backtrack"]
    assert disback.path is not None
    assert [node.step for node in disback.path] == [1, 4]  # 2 was noise, 6 was not needed
    assert disback.path.complete
    assert "recording step 2: no node is kept, it would be noise" in caplog.text


class Directions:
    """Residuals in the plane: the teacher's, the first node's, then the fake score's in order."""

    def __init__(self, host, node, fake):
        self.host, self.node, self.fake, self.installed = host, node, list(fake), []
        self.teacher = tensors_of(host.teacher)

    def __call__(self, network):
        if network is self.host.fake_score:
            return torch.tensor(self.fake.pop(0))
        self.installed.append(same(tensors_of(network), self.teacher))
        return torch.tensor([10.0, 0.0] if self.installed[-1] else self.node)


def test_a_path_that_only_damps_the_teacher_is_not_walked(tmp_path, caplog):
    host = ToyHost()
    record = {"num_steps": 8, "auto": {"stop_at": 0.01}}
    # node 1 stands between teacher and fake score: its pull is the teacher's, damped
    measure = Directions(host, node=[8.0, 0.0], fake=[[8.0, 0.0], [5.0, 1.5]])
    calls = []
    disback = attach(
        host, tmp_path, measure, lambda: calls.append(tensors_of(host.fake_score)), record=record
    )
    turns = host.run(disback, range(4))
    assert [turn.stage for turn in turns] == ["record", "record", "teacher", "teacher"]
    assert disback.num_record_steps == 2
    assert len(calls) == 1
    assert same(calls[0], measure.teacher)  # the fake score starts again as the teacher
    assert disback.path is not None
    assert [node.step for node in disback.path] == [1]
    assert measure.installed == [True]  # the teacher was asked once, no node was installed for it
    assert disback.num_measurements == 3  # teacher, node 1, node 2
    assert same(tensors_of(host.teacher), measure.teacher)
    assert "the first node pulls the student as the teacher does (cosine 0.99" in caplog.text
    disback.close()
    assert "never installed a node" not in caplog.text  # it was said why
    again = ToyHost()
    resumed = attach(again, tmp_path, Directions(again, [], []), record=record)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    turn = resumed.begin_step(4)
    assert turn.stage == "teacher"
    assert turn.switch is None  # the teacher was there all along


@pytest.mark.parametrize("record", [{"num_steps": 8, "auto": {"stop_at": 0.01}}, None])
def test_a_path_that_was_given_up_is_reused_with_the_teacher(tmp_path, caplog, record):
    host = ToyHost()
    measure = Directions(host, node=[8.0, 0.0], fake=[[8.0, 0.0], [5.0, 1.5]])
    first = attach(host, tmp_path, measure, record={"num_steps": 8, "auto": {"stop_at": 0.01}})
    host.run(first, range(3))
    again = ToyHost()
    disback = attach(again, tmp_path, None, record=record)
    disback.begin_step(0)
    started = [tensors_of(again.fake_score)]
    turns = again.run(disback, range(3))
    disback.close()
    assert [turn.stage for turn in turns] == ["teacher"] * 3
    assert "its recording was given up" in caplog.text
    assert first.path.gave_up
    assert same(started[0], measure.teacher)  # the fake score starts as it did
    assert "never installed a node" not in caplog.text


def test_a_measure_that_gives_a_number_is_told_what_is_due(tmp_path):
    host = ToyHost()
    with pytest.raises(SessionError, match=r"gave a float: it must return the residuals"):
        attach(host, tmp_path, lambda network: 3.0).begin_step(0)
    with pytest.raises(SessionError, match="gave a single number, a loss perhaps"):
        attach(host, tmp_path, lambda network: torch.tensor(3.0)).begin_step(0)


def test_a_student_whose_samples_are_not_finite_decides_nothing(tmp_path):
    host = ToyHost()
    disback = attach(host, tmp_path, lambda network: torch.tensor([float("nan"), 1.0]))
    with pytest.raises(SessionError, match="loss on the student's samples is nan"):
        disback.begin_step(0)
    assert not (tmp_path / "path").exists()


def resumed_after_the_first_node(folder, kind):
    record = {"num_steps": 8, "auto": {"stop_at": 0.01}}
    host, again = ToyHost(), ToyHost()
    disback = attach(host, folder, Directions(host, [8.0, 0.0], [[8.0, 0.0]]), record=record)
    host.run(disback, range(1))
    again.fake_score.load_state_dict(copy.deepcopy(host.fake_score.state_dict()))
    measure = kind(again, node=None, fake=[[5.0, 1.5], [8.0, 0.0]])  # of node 2, then node 1 again
    resumed = attach(again, folder, measure, record=record)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    return again, measure, resumed


def test_a_run_resumed_after_the_first_node_asks_again_and_decides_the_same(tmp_path, caplog):
    host, measure, disback = resumed_after_the_first_node(tmp_path, Directions)
    turns = host.run(disback, range(1, 4))
    assert [turn.stage for turn in turns] == ["record", "teacher", "teacher"]
    assert measure.fake == []
    assert measure.installed == [True]
    assert "but its optimizer remembers the recording" in caplog.text
    assert disback.num_measurements == 1  # of node 2: the others were counted before the stop


class Unsure(Directions):
    """Fails at the moment at which the first node stands in the fake score's place."""

    def __call__(self, network):
        residual = super().__call__(network)
        if network is self.host.fake_score:
            self.asked = [*getattr(self, "asked", []), tensors_of(network)]
        if not self.fake:
            raise RuntimeError("out of memory")
        return residual


def test_a_failure_while_the_first_node_is_asked_leaves_the_fake_score(tmp_path):
    host, measure, disback = resumed_after_the_first_node(tmp_path, Unsure)
    with pytest.raises(RuntimeError, match="out of memory"):
        host.run(disback, range(1, 3))
    own, first = measure.asked
    assert same(first, disback.path.read(1))
    assert same(own, tensors_of(host.fake_score))
    assert same(tensors_of(host.teacher), measure.teacher)


def test_a_path_that_corrects_the_teacher_is_walked(tmp_path):
    host = ToyHost()
    record = {"num_steps": 4, "auto": {"stop_at": 0.01}}
    # pulls (5, 0) - (8, 3) and (5, 0) - (10, 0): cosine 0.71
    measure = Directions(host, node=[8.0, 3.0], fake=[[8.0, 3.0], [5.0, 0.0], [2.0, 0.0]])
    disback = attach(
        host, tmp_path, measure, record=record, schedule={"name": "fixed", "interval": 2}
    )
    turns = host.run(disback, range(10))
    assert [turn.node for turn in turns] == [0] * 4 + [2] * 2 + [1] * 2 + [0] * 2


def test_with_a_single_node_the_teacher_answers(tmp_path, caplog):
    host = ToyHost()
    disback = attach(host, tmp_path, Script(host, 10.0, fake=[1.0]))
    turns = host.run(disback, range(3))
    assert [turn.stage for turn in turns] == ["record", "teacher", "teacher"]
    assert "one node: the teacher answers" in caplog.text


def test_the_walk_follows_the_measure(tmp_path):
    host = ToyHost()
    measure = Script(host, 9.0, fake=[8.0, 6.0, 4.0, 2.0], nodes=[2.0, 0.9, 2.0, 1.5, 2.0, 0.9])
    disback = attach(host, tmp_path, measure)
    turns = host.run(disback, range(16))
    # nodes 1 to 4 at 6 steps; node 3 halves in 2 steps, node 2 stays for its cap of 4
    assert [turn.node for turn in turns] == [0] * 6 + [3] * 2 + [2] * 4 + [1] * 2 + [0] * 2
    assert [turn.switch.node for turn in turns if turn.switch] == [3, 2, 1, 0]


def test_without_a_measure_all_nodes_are_kept_for_the_cap(tmp_path, caplog):
    host = ToyHost()
    turns = host.run(attach(host, tmp_path, None), range(20))
    assert [turn.node for turn in turns] == [0] * 6 + [3] * 4 + [2] * 4 + [1] * 4 + [0] * 2
    assert "has no measure to decide from, so all 4 nodes are kept" in caplog.text


def test_what_counts_is_the_mean_over_ranks(tmp_path, monkeypatch):
    monkeypatch.setattr("disback_plugin.judge.gather", lambda value: [value, value + 0.5])
    host = ToyHost()
    turn = attach(host, tmp_path, Script(host, 0.8)).begin_step(0)
    assert turn.stage == "record"  # (0.8 + 1.3) / 2 is above min_loss, 0.8 is not


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 7, 8, 11])
def test_resuming_decides_and_trains_the_same_bit_for_bit(tmp_path, stop_at):
    def losses(host):
        def measure(network):
            z = host.noise(999)
            x0 = host.student(z)
            return 30 * (network(x0 + 0.1 * z) - x0)

        return measure

    config = {"record": {"num_steps": 6, "auto": {"min_loss": 0.0, "noise": 1.0, "parallel": 1.0}}}
    whole = ToyHost()
    turns = whole.run(attach(whole, tmp_path / "whole", losses(whole), **config), range(16))
    host = ToyHost()
    disback = attach(host, tmp_path / "cut", losses(host), **config)
    first = host.run(disback, range(stop_at))
    again = ToyHost()
    resumed = attach(again, tmp_path / "cut", losses(again), **config)
    for name, role in again.roles.items():
        role.load_state_dict(copy.deepcopy(host.roles[name].state_dict()))
    for name in ("fake_optimizer", "student_optimizer"):
        saved = copy.deepcopy(getattr(host, name).state_dict())
        getattr(again, name).load_state_dict(saved)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    rest = again.run(resumed, range(stop_at, 16))
    assert [turn.node for turn in first + rest] == [turn.node for turn in turns]
    for name in whole.roles:
        assert same(tensors_of(whole.roles[name]), tensors_of(again.roles[name])), name
