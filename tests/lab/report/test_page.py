"""The report as files: one page without network, exact numbers, pictures that show something."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from disback_plugin.errors import RunError
from disback_plugin.lab.report import build_report, format_table
from disback_plugin.lab.report.curves import convergence_figure
from disback_plugin.lab.report.formatting import mean_std, number, size
from disback_plugin.lab.report.samples import image_grid, run_samples
from disback_plugin.lab.results.runs import read_runs

VERDICT = (
    "Against the fixed teacher: too few seeds to say (2 seeds; 2.00x in passes to fd_pixel 10; "
    "final 4.5 ± 0.71 against 8.5 ± 0.71 at 40 steps)."
)


def filled(experiment):
    for seed in range(2):
        ours = {0: 90, 10: 60, 20: 8, 30: 6, 40: 4 + seed}
        experiment.add("disback", seed, ours, others={"fd_feature": 7})
        theirs = {0: 90, 10: 40, 20: 20, 30: 15, 40: 8 + seed}
        experiment.add("fixed", seed, theirs, others={"fd_feature": 9})
    experiment.add("warm", 0, {0: 90, 10: 45}, complete=False, others={"fd_feature": 8})
    return experiment


@pytest.fixture
def experiment(make_experiment):
    return filled(make_experiment())


@pytest.fixture(scope="module")
def report(make_experiment):
    """(folder, summary) of one report, written beside its experiment."""
    experiment = filled(make_experiment())
    out = experiment.out.parent / "elsewhere"
    return out, build_report([experiment.out], out)


@pytest.fixture(scope="module")
def page(report) -> str:
    return (report[0] / "report.html").read_text(encoding="utf-8")


def test_files_written_are_these(report) -> None:
    out, _ = report
    assert {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()} == {
        "summary.json", "report.html",
        "figures/fd_pixel_passes.png", "figures/fd_pixel_seconds.png",
        "figures/fd_feature_passes.png", "figures/fd_feature_seconds.png",
        "figures/samples_reference.png", "figures/samples_training.png",
    }  # fmt: skip


def test_summary_json_holds_the_exact_numbers(report) -> None:
    out, returned = report
    written = json.loads((out / "summary.json").read_text())
    assert written == returned
    finals = {arm: numbers["finals"] for arm, numbers in written["arms"].items()}
    assert finals["disback"]["fd_pixel"]["seeds"] == {"0": 4, "1": 5}
    assert finals["disback"]["fd_pixel"]["mean"] == 4.5
    assert finals["fixed"]["fd_feature"]["mean"] == 9
    assert written["reference"] == {"fd_pixel": 2.0}
    assert written["speedups"]["fixed"][1]["steps"]["ratio"] == pytest.approx(2.0)
    assert VERDICT in written["verdict"]


def test_page_names_every_run_and_leads_with_the_verdict(page: str) -> None:
    for name in ("disback-seed0", "disback-seed1", "fixed-seed0", "fixed-seed1", "warm-seed0"):
        assert name in page
    verdict = re.search(r'class="verdict">(.*?)</div>', page, flags=re.DOTALL).group(1)
    lines = re.findall(r"<p>(.*?)</p>", verdict)
    assert lines == ["Preliminary, not all runs are complete:", VERDICT]
    assert "warm-seed0 is incomplete" in page


def test_page_is_self_contained(page: str) -> None:
    assert "://" not in page
    assert not re.search(r"<script|<link|@import|url\(", page)
    sources = re.findall(r'(?:src|href)="(.{30})', page)
    assert len(sources) == 6
    assert set(sources) == {"data:image/png;base64,iVBORw0K"}


def test_page_shows_path_config_and_versions_escaped(page: str) -> None:
    rows = re.findall(r"<tr>((?:<td>[^<]*</td>)+)</tr>", page)
    assert "<td>1</td><td>10</td><td>2.0 KiB</td><td>0.01</td><td>0.009</td><td>yes</td>" in rows
    assert "<td>2</td><td>20</td><td>3.0 MiB</td><td>0.0213</td><td>0.02</td><td>50%</td>" in rows
    assert "learning_rate: 0.002  # &lt;tuned&gt;" in page
    assert "<th>versions torch</th><td>2.9</td>" in page


def test_page_tells_seeds_that_never_reached(page: str) -> None:
    row = "<td>disback</td>\n<td>2 of 2 seeds</td><td>40, 40</td>"
    assert row in page
    assert "<td>fixed</td>\n<td>0 of 2 seeds</td><td>never, never</td>" in page


def test_page_gives_speedups_in_steps_and_passes_and_warns_of_seconds(page: str) -> None:
    speedups = page.split("Speed-up of disback")[1].split("</table>")[0]
    assert re.findall(r"<th>(.*?)</th>", speedups) == [
        "fd_pixel", "over", "in passes", "in steps", "both reached it",
    ]  # fmt: skip
    assert speedups.count("2.00x (too few seeds for an interval)") == 2
    warnings = page.count("Wall-clock seconds, runs may have shared the machine")
    assert warnings == 3 + 2 * 2  # three tables; two figures, each with its alternative text


def test_a_bare_run_folder_is_enough(make_experiment) -> None:
    """No teacher, samples, path, config or experiment.json: the report does without."""
    built = make_experiment()
    folder = built.add("disback", 0, {0: 90, 10: 60})
    for file in sorted(built.out.rglob("*"), reverse=True):
        if file.is_file() and file.name not in ("run.json", "metrics.jsonl"):
            file.unlink()
    summary = build_report([folder], built.out)
    page = (built.out / "report.html").read_text()
    assert summary["reference"] == {}
    assert "no samples that can be drawn" in page
    assert "Degradation path" not in page


def test_a_run_without_an_evaluation_is_named_and_nothing_is_claimed(make_experiment) -> None:
    built = make_experiment()
    folder = built.add("disback", 0, {0: 90}, complete=False)
    (folder / "metrics.jsonl").unlink()
    summary = build_report([built.out], built.out)
    assert summary["verdict"].startswith("No disback run is counted here")
    assert "No run has been evaluated yet" in (built.out / "report.html").read_text()


def test_a_damaged_manifest_is_named(experiment) -> None:
    file = experiment.out / "runs" / "disback-seed0" / "path" / "path.json"
    file.write_text("{")
    with pytest.raises(RunError, match=r"path.json is damaged.*disback path verify"):
        build_report([experiment.out], experiment.out)


def test_terminal_table_has_finals_times_and_verdict(report) -> None:
    _, summary = report
    text = format_table(summary)
    assert re.search(r"disback +2 +4.5 ± 0.71 +7 ± 0 +4.5 ± 0.71 +20\n", text)
    assert re.search(r"teacher, many steps +2\n", text)
    assert re.search(r"\n5 +40, 40 \(2 of 2\) +never, never \(0 of 2\)\n", text)
    assert "speed-up of disback in network passes (95 % interval)" in text
    assert re.search(r"\n10 +2.00x \(too few seeds for an interval\)\n", text)
    assert re.search(r"\nfixed +-4 +too few seeds for an interval +2 +undecided\n", text)
    assert "Wall-clock seconds, runs may have shared the machine" in text
    assert text.rstrip().endswith(summary["verdict"])


def test_curves_show_median_switches_recording_and_floor(experiment) -> None:
    runs = read_runs([experiment.out])
    figure = convergence_figure(runs, "fd_pixel", "seconds", (10.0,), reference=2.0)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["disback"].get_xdata()) == [0, 5, 10, 15, 20]
    assert list(lines["disback"].get_ydata()) == [90, 60, 8, 6, 4.5]
    assert set(lines["teacher"].get_ydata()) == {2.0}
    assert axes.get_yscale() == "log"
    verticals = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert sorted(verticals) == [10, 15]
    assert [text.get_text() for text in axes.texts] == ["teacher", "node 1", "10"]
    shaded = [patch for patch in axes.patches if patch.get_label() == "recording"]
    assert shaded[0].get_x() + shaded[0].get_width() == 10


def test_curve_of_a_coverage_is_linear_and_leaves_diverged_values_out(make_experiment) -> None:
    built = make_experiment(primary="mode_coverage")
    built.add("fixed", 0, {0: 0.0, 10: float("nan"), 20: 0.5})
    figure = convergence_figure(read_runs([built.out]), "mode_coverage", "steps")
    (axes,) = figure.axes
    line = next(line for line in axes.lines if line.get_label() == "fixed")
    assert (axes.get_yscale(), list(line.get_xdata())) == ("linear", [0, 20])


def test_curves_switches_and_recording_stand_at_their_network_passes(experiment) -> None:
    figure = convergence_figure(read_runs([experiment.out]), "fd_pixel", "passes")
    (axes,) = figure.axes
    line = next(line for line in axes.lines if line.get_label() == "fixed")
    runs = [run for run in read_runs([experiment.out]) if run.arm == "fixed" and run.complete]
    assert list(line.get_xdata()) == [point.passes for point in runs[0].curve("fd_pixel").points]
    verticals = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert sorted(verticals) == [160, 240]
    assert axes.get_xlabel() == "network passes a sample"


def test_switch_labels_that_would_overlap_give_way_to_the_later(experiment) -> None:
    folder = experiment.out / "runs" / "disback-seed0"
    record = {"kind": "switch", "step": 29, "seconds": 14.5, "passes": 1, "node": 5}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    figure = convergence_figure(read_runs([experiment.out]), "fd_pixel", "steps")
    assert [text.get_text() for text in figure.axes[0].texts] == ["teacher", "node 1"]


def test_sample_steps_hold_the_first_and_the_last(make_experiment) -> None:
    built = make_experiment()
    built.add("fixed", 0, dict.fromkeys(range(0, 101, 10), 1.0))
    (run,) = read_runs([built.out])
    assert list(run_samples(run)) == [0, 10, 20, 50, 100]


def test_image_grid_places_each_image_in_reading_order() -> None:
    images = np.stack([np.full((1, 2, 2), value) for value in (-1.0, 0.0, 1.0, 3.0, np.nan)])
    grid = image_grid(images)
    assert grid.shape == (8, 8)
    assert [grid[0, 0], grid[0, 3], grid[0, 6], grid[3, 0], grid[3, 3]] == [0.0, 0.5, 1.0, 1.0, 0.0]
    assert image_grid(np.zeros((4, 3, 2, 2))).shape == (5, 5, 3)


@pytest.mark.parametrize("data_shape", [(2,), (3, 8, 8), (5,)])
def test_points_and_colour_images_are_drawn_and_other_shapes_are_not(make_experiment, data_shape):
    built = make_experiment(data_shape=data_shape)
    built.add("disback", 0, {0: 90, 10: 60})
    build_report([built.out], built.out)
    drawn = (built.out / "figures" / "samples_training.png").exists()
    assert drawn == (data_shape != (5,))


def test_no_figure_is_left_with_pyplot(experiment) -> None:
    import matplotlib.pyplot as plt

    figure = convergence_figure(read_runs([experiment.out]), "fd_pixel", "steps")
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "not finite"), (4.0, "4"), (0.12345, "0.123"), (999.6, "1,000"), (12345.6, "12,346")],
)
def test_numbers_are_short(value, expected: str) -> None:
    assert number(value) == expected


def test_spread_is_shown_only_where_it_is_known() -> None:
    assert mean_std({"mean": 4.123, "std": 0.3149}) == "4.12 ± 0.31"
    assert mean_std({"mean": 4.123, "std": 12.3}) == "4.12 ± 12"
    assert mean_std({"mean": 4.123, "std": None}) == "4.12"
    assert mean_std({"mean": None, "std": None}) == "not finite"


def test_sizes_have_binary_units() -> None:
    assert [size(n) for n in (12, 2048, 3 * 2**20, 5 * 2**30)] == [
        "12 B",
        "2.0 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]
