"""The report as files: one page without network, exact numbers, what its verdict's words mean."""

import json
import re

import pytest

from disback_plugin.errors import RunError
from disback_plugin.lab.report import build_report, format_table
from disback_plugin.lab.report.formatting import mean_std, number, size

NBSP = "\u00a0"
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
        "figures/fd_pixel_passes.svg", "figures/fd_pixel_seconds.svg",
        "figures/fd_feature_passes.svg", "figures/fd_feature_seconds.svg",
        "figures/samples_reference.svg", "figures/samples_training.svg",
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
    assert page.index("Preliminary, not all runs are complete:") < page.index('<h2 id="curves">')
    card = re.search(r'<div class="card">(.*?)</div>', page, flags=re.DOTALL).group(1)
    assert "Against the fixed teacher" in card
    assert ">undecided</span>" in card
    assert f"<p>{VERDICT.replace(' ±', NBSP + '±')}</p>" in page
    assert "warm-seed0 is incomplete" in page


def test_page_is_titled_by_the_experiment_and_explains_the_words_of_its_verdict(page: str) -> None:
    assert "<title>toy: DisBack report</title>" in page
    assert "<h1>toy</h1>" in page
    meanings = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert list(meanings) == [
        "DisBack", "the fixed teacher", "fd_pixel", "network passes", "95 % interval",
    ]  # fmt: skip
    assert meanings["fd_pixel"].endswith("by their pixels; lower is better.")
    assert "the usual training" in meanings["the fixed teacher"]


def test_page_is_self_contained(page: str) -> None:
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"<link(?! rel=.icon)|@import|url\(|<script[^>]* src|fetch\(", page)
    sources = re.findall(r'(?:src|href)="([^"]{1,30})', page)
    tables = [source for source in sources if source.startswith("data:text/csv;charset=utf-8")]
    pictures = [source for source in sources if source == "data:image/png;base64,iVBORw0K"]
    inside = {"#verdict", "#curves", "#samples", "#numbers", "#what-ran", "data:,"}
    assert len(tables) == 7
    assert len(pictures) == 2 * 5 + 2 + 2  # of seed 0: two arms at five steps, warm at two; data
    assert set(sources) - set(tables) - set(pictures) == inside


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
        "fd_pixel", "over", "slower ← 1x → faster", "in passes", "in steps", "both reached it",
    ]  # fmt: skip
    assert speedups.count('<svg class="bar"') == 2
    assert speedups.count("2.00x (too few seeds for an interval)") == 2
    warnings = page.count("Wall-clock seconds, runs may have shared the machine")
    assert warnings == 3 + 1  # three tables, the curves


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
    _, meanings = text.split(summary["verdict"])
    assert "\nfd_pixel: Frechet distance" in meanings
    assert "lower is better" in meanings
    assert "\nthe fixed teacher: the arm fixed, the usual training" in meanings


def test_several_experiments_stand_side_by_side(make_experiment, tmp_path) -> None:
    """The same arms and seeds in two folders, with another setting: not one experiment."""
    first, second = filled(make_experiment()), filled(make_experiment())
    folders = [tmp_path / "slow", tmp_path / "quick"]
    for built, folder, rate in ((first, folders[0], 0.002), (second, folders[1], 0.004)):
        built.out.rename(folder)
        (folder / "config.yaml").write_text(f"student:\n  lr: {rate}\nname: toy\n")
    summary = build_report(folders, tmp_path / "both", tmp_path / "tables")
    assert list(summary["experiments"]) == ["slow", "quick"]
    assert summary["experiments"]["quick"]["arms"]["disback"]["seeds"] == [0, 1]
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "<h1>slow and quick</h1>" in page
    assert "<td>student.lr</td><td>0.002</td><td>0.004</td>" in page
    assert "<td>name</td>" not in page
    assert page.count("fd_pixel (lower is better) · ") == 2
    assert (tmp_path / "both" / "figures" / "quick" / "fd_pixel_passes.svg").is_file()
    rows = (tmp_path / "tables" / "finals.csv").read_text().splitlines()
    assert rows[0] == "experiment,metric,arm,seed,final,best"
    assert "slow,fd_pixel,disback,1,5.0,5.0" in rows
    assert "quick,fd_pixel,disback,1,5.0,5.0" in rows
    text = format_table(summary)
    assert text.index("== slow") < text.index(VERDICT) < text.index("== quick")


def test_folders_of_one_experiment_without_a_seed_twice_are_counted_together(
    make_experiment,
) -> None:
    ours, theirs = make_experiment(), make_experiment()
    ours.add("disback", 0, {0: 90, 10: 60})
    theirs.add("fixed", 0, {0: 90, 10: 50})
    summary = build_report([ours.out, theirs.out, ours.out], ours.out)
    assert [run["name"] for run in summary["runs"]] == ["disback-seed0", "fixed-seed0"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "not finite"),
        (float("nan"), "not finite"),
        (4.0, "4"),
        (0.12345, "0.123"),
        (999.6, "1,000"),
        (12345.6, "12,346"),
    ],
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


def test_names_of_strangers_write_nothing_elsewhere(make_experiment, tmp_path) -> None:
    built = [make_experiment(name=f"../../{name}", primary="../../../m") for name in "ab"]
    for one in built:
        one.add("disback", 0, {0: 9.0, 10: 5.0})
    out = tmp_path / "deep" / "out"
    build_report([one.out for one in built], out)
    files = {file.relative_to(out).as_posix() for file in out.rglob("*_passes.svg")}
    assert files == {"figures/a/m_passes.svg", "figures/b/m_passes.svg"}
    assert [*tmp_path.iterdir()] == [tmp_path / "deep"]
    assert [*(tmp_path / "deep").iterdir()] == [out]
