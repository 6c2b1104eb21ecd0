"""`disback compare` from end to end: what it writes, going on after a stop, a user's mistakes."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from disback_plugin.cli.main import main
from disback_plugin.lab.compare import run as compare_run
from disback_plugin.lab.report.sweep_tables import sweep_markdown
from disback_plugin.lab.trainer.interrupt import Interrupt
from tests.lab.trainer.conftest import tiny_config


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
    figure = ElementTree.parse(out / "comparison.svg").getroot()
    drawn = {group.get("class") for group in figure.iter() if group.get("class", "")[:4] == "arm-"}
    assert drawn == {f"arm-{arm}" for arm in arms}
    summary = json.loads((out / "summary.json").read_text())
    assert (out / "summary.md").read_text(encoding="utf-8") == sweep_markdown(summary)
    assert len(summary["arms"]) == 8
    # recording is counted: 6 steps of 4 passes, 10 of 9, before 16 of 9 for `fixed`
    passes = {row["arm"]: row["passes"] for row in summary["arms"]}
    assert (passes["fixed"], passes["lr-warmup"], passes["path"]) == (144, 144, 6 * 4 + 10 * 9)
    assert main(arguments) == 0
    assert " s\n" not in capsys.readouterr().out.split("speed-up")[0]  # nothing ran again
    assert main([*arguments, "--for-good"]) == 0
    assert " s\n" not in capsys.readouterr().out.split("speed-up")[0]
    assert "times to thresholds are for good" in (out / "summary.md").read_text(encoding="utf-8")


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
