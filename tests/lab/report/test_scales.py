"""Axes: places of values, and which values are named."""

import pytest

from disback_plugin.lab.report.scales import Scale, around


@pytest.mark.parametrize(
    ("scale", "value", "place"),
    [
        (Scale(kind="linear", low=10, high=30), 15, 0.25),
        (Scale(kind="log", low=0.01, high=100), 1, 0.5),
        (Scale(kind="early", low=0, high=99, knee=1), 9, 0.5),
        (Scale(kind="early", low=0, high=99, knee=1), 0, 0),
    ],
)
def test_a_value_has_its_place(scale: Scale, value: float, place: float) -> None:
    assert scale.position(value) == pytest.approx(place)


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(kind="linear", low=0, high=800), [0, 200, 400, 600, 800]),
        (Scale(kind="linear", low=-0.06, high=1.06), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Scale(kind="log", low=0.9, high=120), [1, 2, 5, 10, 20, 50, 100]),
        (Scale(kind="log", low=0.9, high=6), [1, 1.5, 2, 3, 4, 5]),
        (Scale(kind="log", low=9, high=18), [10, 12, 14, 16, 18]),
        (Scale(kind="log", low=1e-3, high=1e3), [1e-3, 1e-2, 0.1, 1, 10, 100, 1e3]),
        (Scale(kind="early", low=0, high=7000, knee=20), [0, 50, 200, 500, 2000, 5000]),
    ],
)
def test_the_named_values_are_round_and_apart(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks(7) == ticks


@pytest.mark.parametrize("values", [[4.0], [4.0, 4.0], [0.0], [-3.0, 5.0], [1e-9, 1e9]])
def test_a_scale_around_values_has_room_for_them(values: list[float]) -> None:
    for log in {False, min(values) > 0}:
        scale = around(values, log=log)
        assert all(0 < scale.position(value) < 1 for value in values)
        assert scale.ticks(6)
