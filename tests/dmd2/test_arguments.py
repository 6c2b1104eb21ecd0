"""The flags of the patched scripts: what they mean, and what they refuse before anything loads."""

import argparse
from pathlib import Path

import pytest

from disback_plugin.adapters.flags import add_arguments, check_arguments, config_from

RECORD = ["--disback_record_iters", "20", "--disback_record_every", "5"]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train_sd.py")
    parser.add_argument("--gan_alone", action="store_true")
    add_arguments(parser)
    args = parser.parse_args(list(arguments))
    check_arguments(parser, args)
    return args


def test_the_papers_settings_for_sdxl() -> None:
    config = config_from(
        parse(
            *("--disback", "--disback_path", "p", "--disback_record_iters", "1000"),
            *("--disback_record_every", "100", "--disback_interval", "1000"),
        )
    )
    assert config.path == Path("p")
    assert config.record is not None
    assert config.record.node_steps == tuple(range(100, 1001, 100))
    assert config.schedule.settings() == {"name": "fixed", "interval": 1000}
    assert config.arm == "disback"


def test_listed_nodes_and_intervals_a_node() -> None:
    config = config_from(
        parse(
            *("--disback", "--disback_path", "p", "--disback_record_iters", "25"),
            *("--disback_record_at", "2,4,25", "--disback_schedule", "per-node"),
            *("--disback_intervals", "10,20", "--disback_codec", "delta", "--disback_arm", "warm"),
        )
    )
    assert config.record is not None
    assert config.record.at == (2, 4, 25)
    assert config.schedule.settings() == {"name": "per-node", "intervals": [10, 20]}
    assert (config.codec, config.arm) == ("delta", "warm")


def test_settings_of_a_schedule_to_come_pass_as_json() -> None:
    args = parse(
        *("--disback", "--disback_path", "p", *RECORD),
        *("--disback_schedule", "fixed", "--disback_schedule_settings", '{"interval": 7}'),
    )
    assert config_from(args).schedule.settings() == {"name": "fixed", "interval": 7}


def test_without_the_flag_nothing_is_asked_for() -> None:
    assert parse().disback is False


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--disback", "--gan_alone"], "trains without one"),
        (["--disback_interval", "5"], "--disback_interval has no effect without --disback"),
        (["--disback"], "needs 'path'"),
        (["--disback", "--disback_path", "nowhere"], "nowhere holds no path to reuse"),
        (
            ["--disback", "--disback_path", "p", "--disback_record_every", "5"],
            "num_steps",
        ),
        (
            ["--disback", "--disback_path", "p", *RECORD, "--disback_intervals", "5"],
            "unknown key 'intervals'.*did you mean 'interval'",
        ),
        (
            [
                *("--disback", "--disback_path", "p", *RECORD),
                *("--disback_schedule", "per-node", "--disback_intervals", "5"),
            ],
            "give 3 intervals",
        ),
        (["--disback", "--disback_path", "p", "--disback_record_at", "a,b"], "no list of numbers"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(*arguments)
    assert stop.value.code == 2
    import re

    assert re.search(reason, capsys.readouterr().err.replace("\n", " "))
