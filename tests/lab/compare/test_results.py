"""Curves on disk, speed-ups from them, and the command from end to end."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from disback_plugin.cli.main import main
from disback_plugin.errors import RunError
from disback_plugin.lab.compare import run as compare_run
from disback_plugin.lab.report.markdown import markdown
from disback_plugin.lab.results.comparison_summary import summarise, table
from disback_plugin.lab.results.curves import Curve, read_curves, write_curves
from disback_plugin.lab.results.thresholds import CurvePoint
from disback_plugin.lab.trainer.interrupt import Interrupt
from tests.lab.trainer.conftest import tiny_config


def curve(arm: str, lr: float, seed: int, values: list[float], nodes: int | None = None) -> Curve:
    points = [CurvePoint(10 * i, 0.5 * i, 90.0 * i, v) for i, v in enumerate(values)]
    return Curve(arm, lr, seed, tuple(points), nodes)


CURVES = [
    *(curve("fixed", 1e-3, seed, [8.0, 4.0, 2.0, 1.0, 0.9]) for seed in range(3)),
    *(curve("fixed", 2e-3, seed, [8.0, 3.0, 1.0, 0.9, 0.9]) for seed in range(3)),
    *(curve("adaptive", 1e-3, seed, [8.0, 1.0, 0.8, 0.7, 0.6], 4) for seed in range(2)),
    curve("adaptive", 1e-3, 2, [8.0, 7.0, 6.0, 5.0, 4.0], 2),
]


def test_curves_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    odd = curve("warm", 2e-3, 1, [8.0, float("inf"), 0.123456])
    write_curves(tmp_path / "c.jsonl", [*CURVES, odd])
    assert read_curves(tmp_path / "c.jsonl") == [*CURVES, odd]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"arm": "fixed"}\n')
    with pytest.raises(RunError, match=r"c\.jsonl is damaged .*run the comparison again"):
        read_curves(tmp_path / "c.jsonl")


def test_speed_ups_are_over_the_same_rate_and_over_the_best_one() -> None:
    rows = {(r["arm"], r["student_lr"]): r for r in summarise(CURVES, [1.0])["arms"]}
    limit = rows["adaptive", 1e-3]["thresholds"][0]
    assert limit["best_lr"] == 2e-3
    assert limit["arrived"] == 2
    # seeds 0 and 1: 270 / 90 and 180 / 90; seed 2 counts with its budget of 360 passes
    assert limit["over_same_lr"]["estimate"] == pytest.approx((3 * 3 * 270 / 360) ** (1 / 3))
    assert limit["over_best_lr"]["estimate"] == pytest.approx((2 * 2 * 180 / 360) ** (1 / 3))
    assert limit["passes"] == pytest.approx((90 + 90 + 360) / 3)
    assert rows["adaptive", 1e-3]["num_nodes"] == pytest.approx(10 / 3)
    assert rows["fixed", 1e-3]["num_nodes"] is None
    assert rows["fixed", 2e-3]["final"] == pytest.approx(0.9)


def test_the_markdown_tables_say_the_same() -> None:
    lines = markdown(summarise(CURVES, [2.0, 1.0])).splitlines()
    assert lines[:3] == [
        "| student_lr | arm | to 2 | to 1 | final |",
        "|---|---|---|---|---|",
        "| 0.001 | fixed | 180 passes | 270 passes | 0.9 ± 0 |",
    ]
    # to 2: 180 / 90 twice, and 180 / 360; the other seed never arrives: a bound
    assert re.fullmatch(
        r"\| 0\.001 \| adaptive \| ≤ 1\.26x \(0\.50 to 2\.00\) \[2 of 3\] "
        r"\| ≤ 1\.89x \(0\.75 to 3\.00\) \[2 of 3\] \| 1\.73 ± 2 \|",
        lines[3],
    )
    assert lines[4].startswith("| 0.002 | fixed | 180 passes | 180 passes |")
    best = lines[lines.index("Each arm at its best rate, chosen afterwards for each threshold:") :]
    assert best[4] == "| fixed | 180 passes at 0.001 | 180 passes at 0.002 |"
    assert best[5].startswith("| adaptive | ≤ 1.26x")
    assert best[5].endswith(" at 0.001 |")


def test_curves_of_an_arm_that_was_removed_come_last() -> None:
    removed = [curve("long-steps", 1e-3, seed, [8.0, 1.0, 0.8, 0.7, 0.6]) for seed in range(3)]
    lines = markdown(summarise([*removed, *CURVES], [1.0])).splitlines()
    arms = [line.split(" | ")[1] for line in lines if line.startswith("| 0.001 |")]
    assert arms == ["fixed", "adaptive", "long-steps"]


def test_where_the_whole_interval_is_above_1_the_markdown_is_bold() -> None:
    quick = [curve("disback", 1e-3, seed, [8.0, 1.0, 0.8]) for seed in range(3)]
    text = markdown(summarise([*CURVES[:3], *quick], [1.0]))
    assert "| 0.001 | disback | **3.00x (3.00 to 3.00)** | 0.8 ±" in text
    assert "best rate" not in text  # there is one rate only
    few = [*quick[:2], curve("disback", 1e-3, 2, [8.0, 7.0, 0.8][:2])]
    assert "**" not in markdown(summarise([*CURVES[:3], *few], [1.0]))  # an upper bound
    never = summarise([*CURVES[:3], *quick], [0.1])
    assert "| 0.001 | fixed | not reached |" in markdown(never)
    assert "| 0.001 | disback | none arrived |" in markdown(never)
    assert "to 0.1        not reached     0/3  same lr none arrived" in table(never)
    assert "| 270 passes |" not in markdown(summarise(quick, [1.0]))


def test_without_the_baseline_and_where_nobody_arrives_no_speed_up_is_told() -> None:
    alone = [curve for curve in CURVES if curve.arm != "fixed"]
    assert "no speed-ups: the arm fixed, the baseline, was not run" in table(
        summarise(alone, [1.0])
    )
    rows = table(summarise(CURVES, [-1.0])).splitlines()
    assert all("none arrived" in row for row in rows if row.startswith("  to -1"))
    assert sum(row.startswith("  to -1") for row in rows) == len({c.key for c in CURVES})


def test_seeds_that_never_arrive_show_in_the_table() -> None:
    text = table(summarise(CURVES, [1.0]))
    line = next(line for line in text.split("adaptive")[1].splitlines() if "to 1" in line)
    assert "2/3" in line
    assert "<=" in line


def test_one_seed_has_no_interval_and_that_is_said_once() -> None:
    summary = summarise([one for one in CURVES if one.seed == 0], [1.0])
    assert [
        (entry["low"], entry["high"])
        for row in summary["arms"]
        for limit in row["thresholds"]
        for entry in (limit["over_same_lr"], limit["over_best_lr"])
        if entry is not None
    ] == [(None, None)] * 6
    text = table(summary)
    assert text.count("one seed has no interval") == 1
    assert "adaptive at 0.001 (1 seed, 4.0 nodes): final" in text
    arrived = re.findall(r"1/1  same lr (.*)  best lr (.*)", text)
    assert arrived == [("1.00x", "0.67x"), ("1.00x", "1.00x"), ("3.00x", "2.00x")]
    assert "one seed" not in table(summarise(CURVES, [1.0]))


def test_the_header_says_which_interval_and_why() -> None:
    header = table(summarise(CURVES, [1.0])).split("\n\n")[0]
    assert re.search(r"95 % bootstrap interval: .*many seeds; .*Student's t", header, re.DOTALL)


@pytest.mark.parametrize("stopped_in", ["teacher", "arm"])
def test_a_stopped_comparison_says_how_to_go_on_and_does(
    stopped_in: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config("evaluation.thresholds=[2.0]").to_yaml())
    out = tmp_path / "out"
    arguments = ["compare", str(config), "--arms", "fixed", "--seeds", "1", "--out", str(out)]

    class Asked(Interrupt):
        def __enter__(self) -> Interrupt:
            self.request()
            return super().__enter__()

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stopped_in == "teacher":
            patch.setattr(compare_run, "Interrupt", Asked)
        else:
            patch.setattr(compare_run, "run_arm", interrupt)
        assert main(arguments) == 130
    printed = "".join(capsys.readouterr())
    assert re.search(r"stopped; the same command goes on from what is finished", printed)
    assert "--resume" not in printed
    assert (out / "teacher" / "reference.json").exists() == (stopped_in == "arm")
    assert main(arguments) == 0
    assert "fixed at 0.001 (1 seed): final" in capsys.readouterr().out


def test_the_command_compares_writes_and_does_not_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config("evaluation.thresholds=[2.0, 1.5]").to_yaml())
    out = tmp_path / "out"
    arms = ("fixed", "path", "adaptive", "lr-warmup")
    arguments = ["compare", str(config), "--arms", ",".join(arms)]
    arguments += ["--lrs", "1e-3,2e-3", "--seeds", "3", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "adaptive at 0.002 (3 seeds" in printed
    names = {f"{arm}-lr{lr}-seeds3.jsonl" for arm in arms for lr in ("0.001", "0.002")}
    assert {file.name for file in (out / "curves").iterdir()} == names
    assert (out / "comparison.png").stat().st_size > 5_000
    summary = json.loads((out / "summary.json").read_text())
    assert (out / "summary.md").read_text(encoding="utf-8") == markdown(summary)
    assert len(summary["arms"]) == 8
    # recording is counted: 6 steps of 4 passes, 10 of 9, before 16 of 9 for `fixed`
    passes = {row["arm"]: row["passes"] for row in summary["arms"]}
    assert (passes["fixed"], passes["lr-warmup"], passes["path"]) == (144, 144, 6 * 4 + 10 * 9)
    assert main(arguments) == 0
    assert " s\n" not in capsys.readouterr().out.split("speed-up")[0]  # nothing ran again


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--arms", "fixed,wram"], "unknown arm 'wram'; did you mean 'warm'"),
        (["--arms", "fixed,long-steps"], "arm 'long-steps' was removed, with the long steps"),
        (["--arms", "adaptive-warm"], "arm 'adaptive-warm' was removed"),
        (["--arms", "adaptive-path"], "arm 'adaptive-path' was removed"),
        (["--lrs", "1e-3,fast"], "--lrs takes positive numbers with commas between"),
        (["--lrs", "-1"], "--lrs takes positive numbers with commas between"),
        ([], "compare needs evaluation.thresholds"),
    ],
)
def test_a_users_mistake_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    config = tmp_path / "tiny.yaml"
    thresholds = "[1.0]" if more else "[]"
    config.write_text(tiny_config(f"evaluation.thresholds={thresholds}").to_yaml())
    assert main(["compare", str(config), "--out", str(tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err
