"""Curves: which values are drawn where, for every unit and axis, and what a reader may point at."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from disback_plugin.lab.report.chart import BOTTOM, LEFT, RIGHT, TOP, thinned, way
from disback_plugin.lab.report.curves import metric_plot
from disback_plugin.lab.report.plots import Panel
from disback_plugin.lab.results.runs import read_runs
from tests.lab.report.test_page import filled


@pytest.fixture(scope="module")
def runs(make_experiment):
    return read_runs([filled(make_experiment()).out])


@pytest.fixture(scope="module")
def plot(runs):
    return metric_plot(
        runs, "fd_pixel", title="fd_pixel", thresholds=(10.0,), reference=(2.0, "teacher")
    )


def values(line):
    return [value for _, value in line.points]


def places(line):
    return [x for x, _ in line.points]


def test_an_arm_has_a_median_a_band_and_a_line_a_seed(plot) -> None:
    chart = plot.chart("seconds")
    ours = [line for line in chart.lines if line.style == "arm-disback"]
    (middle,) = [line for line in ours if line.weight == "middle"]
    assert (places(middle), values(middle)) == ([0, 5, 10, 15, 20], [90, 60, 8, 6, 4.5])
    assert [values(line)[-1] for line in ours if line.weight == "seed"] == [4, 5]
    upper, lower = middle.band
    assert (upper[-1], lower[-1]) == ((20, 5), (20, 4))
    warm = [line.weight for line in chart.lines if line.style == "arm-warm"]
    assert warm == ["seed open", "middle"]  # incomplete: dotted


def test_every_unit_has_its_own_places(runs, plot) -> None:
    fixed = next(run for run in runs if run.arm == "fixed")
    for unit, label in (("passes", "network passes a sample"), ("steps", "training steps")):
        chart = plot.chart(unit)
        line = next(
            one for one in chart.lines if one.style == "arm-fixed" and one.weight == "middle"
        )
        names = {"passes": "passes", "steps": "step"}
        expected = [getattr(p, names[unit]) for p in fixed.curve("fd_pixel").points]
        assert places(line) == expected
        assert (chart.x_label, chart.x.high) == (label, max(expected))


def test_the_ribbon_says_what_answers_from_recording_to_the_teacher(plot) -> None:
    """Recorded up to step 20, node 1 from 20 on, the teacher from 30 on; 8 passes a step."""
    found = [(s.name, s.begin, s.end) for s in plot.chart("passes").ribbon]
    assert found == [("recording", 0, 160), ("node 1", 160, 240), ("teacher", 240, 320)]
    svg = plot.chart("passes").svg()
    middle = LEFT + (RIGHT - LEFT) / 2
    assert f'<path class="switch" d="M{middle:.1f} ' in svg
    assert re.findall(r"<title>(.*?)</title>", svg) == ["recording", "node 1", "teacher"]


def test_a_walk_that_is_over_early_gets_a_wide_start(runs) -> None:
    marks = {1: 0.25, 0: 0.5}  # in passes, of 320
    early = [
        replace(
            run,
            switches=tuple(replace(m, passes=marks[m.node]) for m in run.switches),
            recording=None,
        )
        for run in runs
    ]
    plot = metric_plot(early, "fd_pixel", title="fd_pixel")
    assert plot.early("passes")
    assert not metric_plot(runs, "fd_pixel", title="fd_pixel").early("passes")
    even, wide = plot.chart("passes"), plot.chart("passes", early=True)
    assert even.x.position(0.5) < 0.01
    assert 0.1 < wide.x.position(0.25) < wide.x.position(0.5) < 0.4
    assert (wide.x.position(0), wide.x.position(320)) == (0, 1)


def test_the_axis_of_a_distance_is_logarithmic_and_a_far_teacher_is_named(runs, plot) -> None:
    chart = plot.chart("steps")
    assert chart.y.kind == "log"
    assert 1.5 < chart.y.low < 2.0 < 90 < chart.y.high < 120
    assert ">teacher</text>" in chart.svg()
    assert 'class="level"' in chart.svg()
    far = metric_plot(runs, "fd_pixel", title="fd_pixel", reference=(1e-6, "teacher"))
    assert far.chart("steps").y.low > 1
    assert ">teacher: 1e-06, below</text>" in far.chart("steps").svg()


def test_a_coverage_is_linear_and_diverged_values_are_left_out(make_experiment) -> None:
    built = make_experiment(primary="mode_coverage")
    built.add("fixed", 0, {0: 0.0, 10: float("nan"), 20: 0.5})
    chart = metric_plot(read_runs([built.out]), "mode_coverage", title="m").chart("steps")
    assert chart.y.kind == "linear"
    assert [places(line) for line in chart.lines] == [[0, 20]] * 2


def test_without_a_finite_value_there_is_no_plot(make_experiment) -> None:
    built = make_experiment()
    built.add("fixed", 0, {0: float("inf"), 10: float("nan")})
    assert metric_plot(read_runs([built.out]), "fd_pixel", title="fd_pixel") is None


def test_seeds_without_a_step_in_common_are_lines_without_a_median(make_experiment) -> None:
    built = make_experiment()
    built.add("fixed", 0, {0: 9.0, 10: float("inf")})
    built.add("fixed", 1, {0: float("inf"), 10: 5.0})
    runs = read_runs([built.out])
    plot = metric_plot(runs, "fd_pixel", title="fd_pixel")
    assert [values(line) for line in plot.chart("steps").lines] == [[9.0], [5.0], []]
    assert plot.end("steps") == 10
    assert plot.data()["arms"][0]["value"] == []
    assert metric_plot(runs, "fd_pixel", title="fd_pixel", seeds=False) is None


def test_a_seed_that_went_on_is_drawn_to_its_end(make_experiment) -> None:
    built = make_experiment()
    built.add("fixed", 0, {0: 9.0, 10: 8.0})
    built.add("fixed", 1, {0: 9.0, 10: 8.0, 50: 7.0})
    plot = metric_plot(read_runs([built.out]), "fd_pixel", title="fd_pixel")
    assert plot.end("steps") == 50


def test_charts_side_by_side_have_equal_axes(make_experiment) -> None:
    plots = {}
    for name, last in (("short", 40), ("long", 400)):
        built = make_experiment(name=name)
        built.add("disback", 0, {0: 90.0, 10: 8.0, last: 800.0 / last})
        plots[name] = metric_plot(read_runs([built.out]), "fd_pixel", title="fd_pixel")
    panel = Panel(title="", caption="", main=True, plots=plots)
    for short, long in zip(panel.variants("short"), panel.variants("long"), strict=True):
        scales = [re.search(r'data-scales="(.*?)"', svg)[1] for svg in (short, long)]
        assert scales[0] == scales[1]
        assert short != long


def test_the_data_for_pointing_holds_all_arms_in_all_units(plot) -> None:
    data = json.loads(json.dumps(plot.data()))
    arms = {arm["name"]: arm for arm in data["arms"]}
    assert arms["disback"]["value"] == [90, 60, 8, 6, 4.5]
    assert arms["disback"]["low"] == [90, 60, 8, 6, 4]
    assert arms["disback"]["passes"] == [0, 80, 160, 240, 320]
    assert arms["disback"]["seconds"] == [0, 5, 10, 15, 20]
    assert "low" not in arms["warm"]  # one seed
    assert [(one["name"], one["steps"]) for one in data["walk"]] == [
        ("recording", [0]), ("node 1", [20]), ("teacher", [30]),
    ]  # fmt: skip


def test_a_line_is_where_its_scales_say(plot) -> None:
    chart = plot.chart("steps")
    root = ElementTree.fromstring(chart.file())
    (group,) = [
        g for g in root.findall(".//{*}g")
        if g.get("class") == "arm-disback" and g[0].get("class") == "band"
    ]  # fmt: skip
    drawn = points(group.find("{*}path[@class='line middle']").get("d"))
    for (x, y), (step, value) in zip(
        drawn, ((0, 90), (10, 60), (20, 8), (30, 6), (40, 4.5)), strict=True
    ):
        assert x == pytest.approx(LEFT + step / 40 * (RIGHT - LEFT), abs=0.06)
        height = BOTTOM - chart.y.position(value) * (BOTTOM - TOP)
        assert y == pytest.approx(height, abs=0.06)


def test_a_file_names_its_lines_and_follows_dark_mode(plot) -> None:
    root = ElementTree.fromstring(plot.chart("steps").file())
    named = [g for g in root.findall("{*}g") if g.find("{*}text") is not None]
    legend = {g.get("class"): g.find("{*}text").text for g in named if "arm" in g.get("class")}
    assert legend == {f"arm-{arm}": arm for arm in ("disback", "fixed", "warm")}
    assert "prefers-color-scheme: dark" in root.find("{*}style").text


def points(path: str) -> list[tuple[float, float]]:
    """Path data of `way` as absolute places."""
    numbers = [float(text) for text in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", path)]
    x, y = numbers[:2]
    found = [(x, y)]
    for dx, dy in zip(numbers[2::2], numbers[3::2], strict=True):
        x, y = x + dx, y + dy
        found.append((x, y))
    return found


def test_path_data_is_exact_to_a_tenth_however_long() -> None:
    line = [(0.37 * n, 100 + (n * 7919 % 100) / 3) for n in range(1000)]
    for (x, y), (u, v) in zip(points(way(line)), line, strict=True):
        assert (x, y) == (pytest.approx(u, abs=0.051), pytest.approx(v, abs=0.051))
    assert points(way([(1.0, 2.0)])) == [(1.0, 2.0), (1.0, 2.0)]
    assert way([]) == ""


def test_of_many_points_a_column_keeps_its_extremes() -> None:
    line = [(n / 100, float(n == 333) * 9 - float(n == 444) * 5) for n in range(1000)]
    kept = thinned(line)
    assert {(3.33, 9.0), (4.44, -5.0), line[0], line[-1]} <= set(kept)
    assert len(kept) < 40
    assert kept == sorted(kept)
