"""Decisions from measured losses: literal tables, and the caps where nothing is measured."""

import pytest
import torch

from disback_plugin.adaptive import (
    AutoRecord,
    RecordingState,
    Walk,
    cosine_of,
    log_spaced,
    loss_of,
    pull_products,
)
from disback_plugin.config import RecordConfig
from disback_plugin.errors import ConfigError
from disback_plugin.schedule import Adaptive, make_schedule


@pytest.mark.parametrize(
    ("num_steps", "steps"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (10, (1, 2, 4, 8, 10)), (16, (1, 2, 4, 8, 16))],
)
def test_nodes_are_log_spaced_up_to_the_cap(num_steps, steps):
    assert log_spaced(num_steps) == steps
    assert RecordConfig(num_steps=num_steps, auto=AutoRecord()).node_steps == steps


def test_a_record_is_either_regular_listed_or_automatic():
    with pytest.raises(ConfigError, match=r"exactly one of 'every' .*, 'at' .* and 'auto'"):
        RecordConfig(num_steps=4, at=(1, 2), auto=AutoRecord())


def test_a_teacher_that_knows_the_student_needs_no_recording():
    rule = AutoRecord(min_loss=1.0)
    assert not RecordingState().begin(rule, 0.99)
    assert RecordingState().begin(rule, 1.0)


def test_a_node_no_nearer_than_the_one_before_is_noise():
    state, rule = RecordingState(), AutoRecord(noise=0.9)
    state.begin(rule, 10.0)
    kept = [state.keep(rule, loss, last=False) for loss in (8.0, 7.5, 7.1, 7.1, float("nan"), 3.0)]
    assert kept == [True, False, True, False, False, True]
    assert state.losses == [10.0, 8.0, 7.1, 3.0]


def test_recording_ends_at_the_set_fraction_of_the_teachers_loss():
    state, rule = RecordingState(), AutoRecord(stop_at=0.5)
    state.begin(rule, 10.0)
    ended = []
    for loss in (8.0, 5.1, 4.8):
        state.keep(rule, loss, last=False)
        ended.append(state.near_enough(rule))
    assert ended == [False, False, True]


def test_where_all_nodes_are_noise_the_last_is_kept_so_that_there_is_a_path():
    state, rule = RecordingState(), AutoRecord()
    state.begin(rule, 2.0)
    assert [state.keep(rule, 3.0, last) for last in (False, True)] == [False, True]


def _walk(schedule, losses, num_steps, num_nodes=4):
    walk, asked = Walk(), []

    def measure(node):
        asked.append(node)
        return losses[node].pop(0)

    nodes = [schedule.advance(walk, step, num_nodes, measure) for step in range(num_steps)]
    return nodes, asked


def test_the_walk_goes_on_when_the_student_has_reached_the_node_or_at_the_cap():
    schedule = Adaptive(cap=4, every=2, reached=0.5, known=0.1)
    losses = {3: [2.0, 1.0], 2: [2.0, 1.9], 1: [0.05]}
    nodes, asked = _walk(schedule, losses, 8)
    # node 3 halves within 2 steps; node 2 stays for its cap; node 1 is known from the start
    assert nodes == [3, 3, 2, 2, 2, 2, 0, 0]
    assert asked == [3, 3, 2, 2, 1]


def test_asking_again_for_a_step_decides_nothing():
    schedule, walk = Adaptive(cap=2), Walk()
    assert [schedule.advance(walk, step, 3, None) for step in (0, 1, 1, 2, 1, 2)] == [
        *(2, 2, 2, 1, 1, 1)
    ]


def test_without_a_measure_every_node_answers_for_its_cap():
    schedule, walk = make_schedule({"name": "adaptive", "cap": 3}), Walk()
    nodes = [schedule.advance(walk, step, 3, None) for step in range(8)]
    assert nodes == [schedule.node_at(step, 3) for step in range(8)] == [2, 2, 2, 1, 1, 1, 0, 0]
    assert schedule.num_steps(3) == 6


def test_recording_is_given_up_at_the_second_node_where_the_first_only_damps_the_teacher():
    rule, state = AutoRecord(parallel=0.9), RecordingState([10.0, 6.0, 4.0])
    assert not state.gives_up(rule, lambda: 0.89)
    assert not state.gives_up(rule, lambda: float("nan"))
    assert not state.gives_up(AutoRecord(parallel=1.0), lambda: 1.0)
    assert state.losses == [10.0, 6.0, 4.0]
    assert state.gives_up(rule, lambda: 0.9)
    assert state.losses == [10.0, 6.0]  # the second node is not kept
    for losses in ([10.0, 6.0], [10.0, 6.0, 4.0, 2.0]):  # judged once, and asked only then
        assert not RecordingState(losses).gives_up(rule, lambda: pytest.fail("asked"))


def test_pulls_are_differences_of_residuals():
    fake, teacher = torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    node = torch.tensor([[2.0, 0.0]])  # pull (1, 1); the teacher's is (3, 0)
    assert pull_products(fake, node, teacher) == (3.0, 2.0, 9.0)
    assert cosine_of((3.0, 2.0, 9.0)) == pytest.approx(0.5**0.5)
    assert cosine_of((0.0, 0.0, 9.0)) == 0.0
    assert loss_of(fake) == 5.0
