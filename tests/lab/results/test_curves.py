"""Curves: times to thresholds against literal ones, which way is better, files on disk."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from disback_plugin.errors import RunError
from disback_plugin.lab.results.curves import (
    Curve,
    CurvePoint,
    Reach,
    at_shared_steps,
    higher_is_better,
    read_curves,
    write_curves,
)
from tests.lab.results.sweeps import swept

POINTS = (
    CurvePoint(0, 0.0, 0.0, 9.0),
    CurvePoint(10, 1.5, 80.0, 4.0),
    CurvePoint(30, 4.5, 240.0, 6.0),
    CurvePoint(40, 6.0, 320.0, 2.0),
)


def curve_of(*points: CurvePoint, metric: str = "fd_pixel") -> Curve:
    return Curve(arm="fixed", seed=0, metric=metric, points=points)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (10.0, Reach(0, 0.0, 0.0, 0)),
        (5.0, Reach(10, 1.5, 80.0, 10)),
        (4.0, Reach(10, 1.5, 80.0, 10)),
        (3.9, Reach(40, 6.0, 320.0, 10)),
        (1.9, None),
    ],
)
def test_time_is_that_of_the_first_evaluation_as_good_as_the_threshold(threshold, expected) -> None:
    assert curve_of(*POINTS).reach(threshold) == expected


@pytest.mark.parametrize(
    ("values", "threshold", "step"),
    [
        ((9.0, 4.0, 6.0, 2.0), 5.0, 40),  # passes through 5 and rises again
        ((9.0, 4.0, 3.0, 2.0), 5.0, 10),
        ((9.0, 4.0, 3.0, 6.0), 5.0, None),
        ((9.0, 4.0, math.nan, 2.0), 5.0, 40),
        ((9.0, 4.0, 3.0, math.inf), 5.0, None),
    ],
)
def test_for_good_is_from_where_on_the_threshold_holds(values, threshold, step) -> None:
    pairs = zip(POINTS, values, strict=True)
    curve = curve_of(*(point._replace(value=value) for point, value in pairs))
    reach = curve.lasting.reach(threshold)
    assert (None if reach is None else reach.steps) == step
    assert curve.lasting.end == curve.end


def test_for_good_a_coverage_stays_above() -> None:
    curve = curve_of(*POINTS, metric="mode_coverage")
    assert [point.value for point in curve.lasting.points] == [2.0, 2.0, 2.0, 2.0]


def test_gap_is_the_distance_to_the_evaluation_before() -> None:
    reach = curve_of(POINTS[0], POINTS[1], CurvePoint(35, 5, 280, 1.0)).reach(2.0)
    assert reach == Reach(35, 5, 280, 25)


def test_coverage_reaches_from_below() -> None:
    points = [CurvePoint(step, step, step, value) for step, value in ((0, 0.1), (5, 0.7), (9, 0.6))]
    coverage = curve_of(*points, metric="mode_coverage")
    assert coverage.reach(0.7) == Reach(5, 5, 5, 5)
    assert coverage.reach(0.95) is None
    assert coverage.best == 0.7


@pytest.mark.parametrize("metric", ["mode_coverage", "fd_pixel"])
def test_a_value_that_is_not_a_number_reaches_nothing_and_is_never_the_best(metric: str) -> None:
    diverged = CurvePoint(1, 1, 1, math.nan)
    assert curve_of(diverged, metric=metric).reach(5.0) is None
    assert math.isnan(curve_of(diverged, metric=metric).best)
    assert curve_of(diverged, CurvePoint(2, 2, 2, 4.0), metric=metric).best == 4.0


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("fd_pixel", False), ("fd_feature", False), ("sliced_wasserstein", False),
        ("energy_distance", False), ("class_coverage", True), ("mode_coverage", True),
    ],
)  # fmt: skip
def test_direction_of_each_metric(metric: str, expected: bool) -> None:
    assert higher_is_better(metric) is expected


def test_points_are_shared_at_the_steps_that_every_curve_has() -> None:
    long, short = curve_of(*POINTS), curve_of(POINTS[3], POINTS[1])
    assert at_shared_steps([long, short]) == [[POINTS[1]] * 2, [POINTS[3]] * 2]


def test_curves_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    curves = [
        swept("adaptive", 1e-3, 0, [8.0, 1.0, 0.8], nodes=4),
        swept("warm", 2e-3, 1, [8.0, float("inf"), 0.123456]),
    ]
    write_curves(tmp_path / "c.jsonl", curves)
    assert read_curves(tmp_path / "c.jsonl", curves[0].metric) == curves
    line = (tmp_path / "c.jsonl").read_text().splitlines()[1]
    assert re.sub("[0-9a-f]{64}", "SEAL", line) == (
        '{"arm": "warm", "student_lr": 0.002, "seed": 1, "num_nodes": null, '
        '"step": [0.0, 10.0, 20.0], "seconds": [0.0, 0.5, 1.0], "passes": [0.0, 90.0, 180.0], '
        '"value": [8.0, Infinity, 0.123456], '
        '"sha256": "SEAL"}'
    )


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (lambda text: '{"arm": "fixed"}\n', "KeyError: 'step'"),
        (lambda text: text.replace("8.0", "9.0", 1), "its SHA-256 is not the one"),
        (lambda text: text.replace("sha256", "sha257"), "its digest has the name 'sha257'"),
        (lambda text: text[:-20], "JSONDecodeError"),
        (lambda text: "[1]\n", "IndexError"),
    ],
)
def test_a_damaged_file_is_named(damage: Callable[[str], str], seen: str, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    write_curves(file, [swept("warm", 2e-3, 1, [8.0, 1.0])])
    file.write_text(damage(file.read_text()))
    with pytest.raises(
        RunError, match=rf"c\.jsonl is damaged \(.*{seen}.*run the comparison again"
    ):
        read_curves(file, "fd_pixel")
