"""The `--disback` flags as click options: the same names, meanings and refusals as by argparse."""

import argparse
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from disback_plugin.adapters.diff_instruct import overlay
from disback_plugin.adapters.diff_instruct import teacher as diff_instruct_teacher
from disback_plugin.adapters.overlay import flags

ON = ["--disback", "--disback_path", "p"]
RECORD = ["--disback_record_iters", "20", "--disback_record_every", "5"]
HOSTS_OWN = ("lr", "duration", "batch", "lr_warmup_kimg")


@click.command()
@click.option("--lr", type=float, default=1.0)
@click.option("--duration", type=float, default=200.0)
@click.option("--batch", type=int, default=512)
@click.option("--lr_warmup_kimg", type=int, default=-1)
@overlay.options
def script(**given: Any) -> None:
    click.echo(json.dumps(overlay.settings(given)))


def settings(*arguments: str) -> Any:
    done = CliRunner().invoke(script, list(arguments))
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_the_settings_are_those_of_the_argparse_form() -> None:
    given = [*ON, "--disback_record_iters", "25", "--disback_record_at", "2,4,25"]
    given += ["--disback_intervals", "10,20", "--disback_codec", "delta"]
    parser = argparse.ArgumentParser()
    flags.add_arguments(parser)
    config = flags.config_from(parser.parse_args(given))
    found = settings(*given)
    assert found["config"].pop("host")["lr_warmup_kimg"] == -1
    settled = config.model_dump(mode="json", exclude={"host"})
    assert found == {"config": settled, "left_open": [], "resume": None}
    assert config.schedule.settings() == {"name": "per-node", "intervals": [10, 20]}


def test_both_forms_have_the_same_flags() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    flags.add_arguments(parser)
    by_argparse = {action.dest for action in parser._actions}
    by_click = {option.name for option in script.params} - {*HOSTS_OWN, "disback_resume"}
    assert by_click == by_argparse == {"disback", *(f"disback_{f.name}" for f in flags.flags())}


def test_without_the_flag_there_are_no_settings(tmp_path: Path) -> None:
    assert settings("--lr", "2") is None
    done = CliRunner().invoke(script, ["--disback_resume", str(tmp_path)])
    assert done.exit_code == 2
    assert "--disback_resume has no effect without --disback" in done.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--disback"], "--disback needs --disback_path"),
        ([*ON, *RECORD, "--disback_interval", "0"], "'0' is no positive number"),
        ([*ON, "--disback_record_at", "a,b"], "'a,b' is no list of numbers, e.g. 10,25,50"),
        ([*ON, *RECORD, "--disback_schedule_settings", "[1]"], "is no JSON object of settings"),
        ([*ON, *RECORD, "--disback_arm", "cold"], "'cold' is not one of 'disback', 'warm'"),
        ([*ON, *RECORD, "--disback_intervals", "5"], "give 3 intervals"),
        ([*ON, *RECORD, "--disback_resume", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_what_cannot_work_is_a_usage_error_with_the_reason(
    arguments: list[str], reason: str
) -> None:
    done = CliRunner().invoke(script, arguments)
    assert done.exit_code == 2
    assert reason in " ".join(done.output.split())


def test_a_local_teacher_takes_the_place_of_a_download(tmp_path: Path) -> None:
    addresses = {"one": "https://one", "two": "https://two"}
    assert diff_instruct_teacher.choose(addresses, "two", None) == addresses
    chosen = diff_instruct_teacher.choose(addresses, "three", "t.pkl")
    assert chosen == {**addresses, "three": "t.pkl"}
    with pytest.raises(
        click.UsageError, match=r"'three' from \(only one, two\): give .*--edm_file"
    ):
        diff_instruct_teacher.choose(addresses, "three", None)


def test_a_schedule_longer_than_the_run_is_told_in_steps(caplog: pytest.LogCaptureFixture) -> None:
    given = [*ON, *RECORD, "--disback_interval", "10", "--batch", "100"]
    settings(*given, "--duration", "0.006")  # 6,000 images, 60 steps
    assert caplog.text == ""
    settings(*given, "--duration", "0.005")  # 50 = 20 + 3 * 10
    assert "--duration 0.005 --batch 100: the run has 50 steps, but rec" in caplog.text


def test_a_node_after_the_first_step_of_a_warm_up_is_refused() -> None:
    first = [*ON, "--disback_record_iters", "5", "--disback_record_at", "1,5"]
    settings(*first)
    done = CliRunner().invoke(script, [*first, "--lr_warmup_kimg", "1"])
    assert done.exit_code == 2
    assert "--lr_warmup_kimg 1 the learning rate begins at 0" in done.output
