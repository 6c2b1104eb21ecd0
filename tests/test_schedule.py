"""Which node answers when: literal tables, monotone, ending at the teacher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disback_plugin.config_base import parse_settings
from disback_plugin.errors import ConfigError
from disback_plugin.schedule import (
    Adaptive,
    FixedInterval,
    PerNode,
    Schedule,
    Walk,
    list_schedules,
    make_schedule,
    register_schedule,
)


@pytest.mark.parametrize(
    ("interval", "num_nodes", "table"),
    [
        (1, 3, [2, 1, 0, 0]),
        (2, 3, [2, 2, 1, 1, 0, 0]),
        (3, 5, [4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0]),
        (10, 1, [0, 0]),  # one node: the fake score starts there, the teacher answers at once
    ],
)
def test_fixed_interval_follows_its_table(interval, num_nodes, table):
    schedule = FixedInterval(interval=interval)
    assert [schedule.node_at(step, num_nodes) for step in range(len(table))] == table


def test_per_node_gives_its_first_interval_to_the_node_visited_first():
    schedule = PerNode(intervals=(1, 2, 3))
    assert [schedule.node_at(step, 4) for step in range(8)] == [3, 2, 2, 1, 1, 1, 0, 0]


def test_paper_schedule_for_edm_reaches_the_teacher_at_the_expected_step():
    # B.2: 200 recording steps, a node every 50; early nodes 1,000 steps, late ones 10,000
    schedule = PerNode(intervals=(1000, 1000, 10000))
    assert schedule.num_steps(4) == 12000
    assert [schedule.node_at(step, 4) for step in (0, 999, 1000, 2000, 11999, 12000)] == [
        *(3, 3, 2, 1, 1, 0)
    ]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_schedules_never_rise_visit_every_node_and_end_at_the_teacher(intervals):
    num_nodes = len(intervals) + 1
    for schedule in (PerNode(intervals=tuple(intervals)), FixedInterval(interval=intervals[0])):
        total = schedule.num_steps(num_nodes)
        nodes = [schedule.node_at(step, num_nodes) for step in range(total + 3)]
        assert nodes == sorted(nodes, reverse=True)
        assert set(nodes) == set(range(num_nodes))
        assert nodes.index(0) == total


def test_default_num_steps_counts_until_the_teacher():
    assert Schedule.num_steps(FixedInterval(interval=7), 4) == FixedInterval(interval=7).num_steps(
        4
    )


def test_per_node_with_a_wrong_number_of_intervals_is_refused():
    with pytest.raises(ConfigError, match="2 intervals, but a path of 5 nodes.*give 4"):
        PerNode(intervals=(1, 2)).node_at(0, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "fixd", "interval": 1}, "did you mean 'fixed'"),
        ({"name": "fixed", "intervall": 1}, "did you mean 'interval'"),
        ({"name": "fixed", "interval": 0}, "greater than 0"),
        ({"name": "per-node", "intervals": [1, -2]}, "positive"),
        ({"interval": 1}, "needs a name"),
        ("fixed", "needs a name"),
    ],
)
def test_bad_settings_say_what_is_wrong(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_schedule(settings)


def test_settings_round_trip():
    for schedule in (FixedInterval(interval=3), PerNode(intervals=(1, 2))):
        assert make_schedule(schedule.settings()) == schedule


def test_a_new_schedule_is_one_small_class_and_a_taken_name_is_refused(monkeypatch):
    monkeypatch.setattr("disback_plugin.schedule._SCHEDULES", {})

    @register_schedule
    class Halving(Schedule):
        name = "halving"

        def node_at(self, step: int, num_nodes: int) -> int:
            return (num_nodes - 1) >> step

    assert [make_schedule({"name": "halving"}).node_at(step, 9) for step in range(5)] == [
        *(8, 4, 2, 1, 0)
    ]
    assert list_schedules() == ["halving"]
    with pytest.raises(ConfigError, match="already registered by .*Halving"):
        register_schedule(Halving)


def test_schedules_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        FixedInterval(interval=3).interval = 4
    assert parse_settings(FixedInterval, {"interval": 3}, "here").interval == 3


def test_a_schedule_without_a_name_is_refused():
    class Nameless(Schedule):
        def node_at(self, step: int, num_nodes: int) -> int:
            return 0

    with pytest.raises(ConfigError, match="Nameless has no `name`"):
        register_schedule(Nameless)


def test_a_walk_by_the_step_alone_asks_for_no_loss_and_keeps_nothing():
    schedule, walk = FixedInterval(interval=2), Walk()
    nodes = [schedule.advance(walk, step, 3, None) for step in range(6)]
    assert nodes == [2, 2, 1, 1, 0, 0]
    assert walk == Walk()


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


@pytest.mark.parametrize(
    "make", [lambda s: Adaptive(**s), lambda s: make_schedule(s | {"name": "adaptive"})]
)
def test_a_stride_is_refused_with_the_reason(make):
    with pytest.raises(ConfigError, match="'stride' of Adaptive was removed: .*Tried and removed"):
        make({"cap": 5, "stride": 3.0})


def test_without_a_measure_every_node_answers_for_its_cap():
    schedule, walk = make_schedule({"name": "adaptive", "cap": 3}), Walk()
    nodes = [schedule.advance(walk, step, 3, None) for step in range(8)]
    assert nodes == [schedule.node_at(step, 3) for step in range(8)] == [2, 2, 2, 1, 1, 1, 0, 0]
    assert schedule.num_steps(3) == 6
