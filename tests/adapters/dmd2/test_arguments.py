"""The flags of the patched scripts: what they mean, and what they refuse before anything loads."""

import argparse
import math
import re
import sys
from pathlib import Path

import pytest
import torch

from disback_plugin import DegradationPath, RecordConfig
from disback_plugin.adapters.dmd2.overlay import add_arguments, check_arguments
from disback_plugin.adapters.overlay.flags import config_from, left_open
from disback_plugin.config import AutoRecord
from disback_plugin.path import TeacherReference
from disback_plugin.schedule import FixedInterval, make_schedule

ON = ["--disback", "--disback_path", "p"]
RECORD = ["--disback_record_iters", "20", "--disback_record_every", "5"]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train_sd.py")
    parser.add_argument("--gan_alone", action="store_true")
    parser.add_argument("--train_iters", type=int, default=10**6)
    parser.add_argument("--warmup_step", type=int, default=0)
    parser.add_argument("--checkpoint_path")
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


def test_intervals_say_which_schedule_is_meant() -> None:
    args = parse(*ON, *RECORD, "--disback_intervals", "5,6,7")
    assert config_from(args).schedule.settings() == {"name": "per-node", "intervals": [5, 6, 7]}


def test_the_hosts_arguments_go_with_the_path_but_not_those_that_it_does_not_hang_on() -> None:
    args = parse(*ON, *RECORD, "--warmup_step", "5", "--train_iters", "7")
    args.real_image_path, args.lrs, args.log_path = "/data/lmdb", (1e-5, math.inf), "logs"
    assert config_from(args).host == {}
    host = config_from(args, "train_iters log_path").host
    assert host.pop("script") == Path(sys.argv[0]).name
    assert host == {
        "num_processes": 1,
        "gan_alone": False,
        "warmup_step": 5,
        "real_image_path": "lmdb",
        "lrs": [1e-5, "inf"],
    }


def test_alone_it_records_by_itself_and_walks_as_far_as_is_needed() -> None:
    config = config_from(parse(*ON))
    assert config.record == RecordConfig(num_steps=200, auto=AutoRecord())
    assert (
        config.schedule.settings()
        == make_schedule({"name": "adaptive", "cap": 1000, "every": 50}).settings()
    )
    assert left_open(parse(*ON)) == ("record", "schedule")
    assert config_from(parse(*ON, "--disback_record", "auto")) == config
    off = config_from(parse("--disback", "--disback_arm", "fixed"))
    assert (off.record, off.schedule) == (None, FixedInterval(interval=1000))


def test_automatic_recording_has_settings_of_its_own() -> None:
    args = parse(
        *(*ON, "--disback_record_iters", "8", "--disback_record_settings", '{"common": 1}'),
        *("--disback_schedule_settings", '{"cap": 5}'),
    )
    config = config_from(args)
    assert config.record == RecordConfig(num_steps=8, auto=AutoRecord(common=1))
    assert config.schedule == make_schedule({"name": "adaptive", "cap": 5})  # its own `every`
    assert left_open(args) == ()
    for flag, value in (("interval", "7"), ("schedule_settings", '{"interval": 7}')):
        fixed = config_from(parse(*ON, f"--disback_{flag}", value))
        assert fixed.record == RecordConfig(num_steps=200, auto=AutoRecord())
        assert fixed.schedule == FixedInterval(interval=7)


@pytest.mark.parametrize("automatic", [False, True])
def test_a_path_that_lies_there_is_reused_as_before(tmp_path: Path, automatic: bool) -> None:
    recording: dict = {"num_steps": 2, "at": [1, 2]} | ({"auto": {}} if automatic else {})
    path = DegradationPath.create(tmp_path, {"weight": torch.ones(3)}, recording=recording)
    path.append({"weight": torch.ones(3) + 1}, 1)
    given = ("--disback", "--disback_path", str(tmp_path))
    with pytest.raises(SystemExit):  # not whole
        parse(*given)
    resumed = config_from(parse(*given, "--checkpoint_path", "c"))
    assert resumed.record == RecordConfig(num_steps=200, auto=AutoRecord())
    path.append({"weight": torch.ones(3) + 2}, 2)
    path.finish()
    config = config_from(parse(*given))
    assert config.record is None
    assert config.schedule.name == ("adaptive" if automatic else "fixed")
    assert config_from(parse(*given, "--disback_record", "reuse")) == config
    assert config_from(parse(*given, "--disback_record", "auto")).record is not None


def test_a_path_to_reuse_is_looked_at_before_anything_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = {"weight": torch.ones(3)}
    path = DegradationPath.create(tmp_path, TeacherReference.of(teacher))
    for step in (1, 2, 3):
        path.append({"weight": torch.ones(3) + step}, step)
    reuse = ["--disback", "--disback_path", str(tmp_path), "--disback_intervals"]
    with pytest.raises(SystemExit):
        parse(*reuse, "5,6")
    assert "holds an unfinished path (3 nodes)" in capsys.readouterr().err
    path.finish()
    assert parse(*reuse, "5,6").disback_intervals == (5, 6)
    with pytest.raises(SystemExit):
        parse(*reuse, "5")
    assert "give 2 intervals" in capsys.readouterr().err
    (tmp_path / "path.json").write_text("{")
    with pytest.raises(SystemExit):
        parse(*reuse, "5,6")
    assert "path.json is damaged" in capsys.readouterr().err


def test_without_the_flag_nothing_is_asked_for() -> None:
    assert parse().disback is False


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--disback", "--gan_alone"], "trains without one"),
        (["--disback_interval", "5"], "--disback_interval has no effect without --disback"),
        (["--disback"], "--disback needs --disback_path"),
        ([*ON[:2], ""], "--disback_path is empty"),
        (
            ["--disback", "--disback_path", "nowhere", "--disback_record", "reuse"],
            "nowhere holds no path to reuse: leave --disback_record reuse out",
        ),
        ([*ON, *RECORD, "--disback_record", "auto"], "automatic recording says itself which nodes"),
        (
            [*ON[:2], "p", "--disback_arm", "fixed", "--disback_record", "auto"],
            "--disback_record auto has no effect with --disback_arm fixed",
        ),
        (
            [*ON, "--disback_schedule", "adaptive", "--disback_interval", "100"],
            "--disback_interval belongs to --disback_schedule fixed; adaptive takes "
            "--disback_schedule_settings",
        ),
        (
            [*ON, "--disback_schedule_settings", '{"intervals": [1, 2]}'],
            r"--disback_intervals \(schedule per-node\) are of a known number of nodes",
        ),
        ([*ON, *RECORD, "--disback_record_settings", "{}"], "automatic recording says itself"),
        (
            [*ON, "--disback_record_iters", "5", "--disback_record", "reuse"],
            "reuse records nothing",
        ),
        ([*ON, "--disback_record_settings", '{"min_los": 2}'], "did you mean 'min_loss'"),
        ([*ON, "--disback_intervals", "5,6"], "are of a known number of nodes: say which"),
        ([*ON, "--disback_record_every", "5"], "record_every needs --disback_record_iters"),
        ([*ON, "--disback_record_at", "5"], "record_at needs --disback_record_iters"),
        (
            [*ON, "--disback_record_iters", "5"],
            "record_iters needs --disback_record_every .* or --disback_record_at .* auto",
        ),
        ([*ON, *RECORD, "--disback_record_at", "5"], "--disback_record_at .*, not both"),
        ([*ON, *RECORD[:3], "50"], "--disback_record_every 50 is more than 20"),
        (
            [*ON, *RECORD[:2], "--disback_record_at", "5,3"],
            r"--disback_record_at must rise within 1\.\.20",
        ),
        ([*ON, *RECORD, "--disback_interval", "0"], "--disback_interval: '0' is no positive"),
        ([*ON, *RECORD, "--disback_intervals", "5"], "give 3 intervals"),
        (
            [*ON, *RECORD, "--disback_schedule", "fixed", "--disback_intervals", "5"],
            "--disback_intervals belongs to --disback_schedule per-node",
        ),
        (
            [*ON, *RECORD, "--disback_schedule", "per-node", "--disback_interval", "5"],
            "--disback_interval belongs to --disback_schedule fixed",
        ),
        (
            [*ON, *RECORD, "--disback_interval", "5", "--disback_intervals", "5,5,5"],
            "--disback_interval belongs to --disback_schedule fixed; per-node takes",
        ),
        (
            [*ON, *RECORD, "--disback_schedule", "per-node"],
            "--disback_schedule per-node needs --disback_intervals",
        ),
        (
            [*ON, *RECORD, "--disback_schedule", "fixed"],
            "--disback_schedule fixed needs --disback_interval",
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
    assert re.search(reason, capsys.readouterr().err.replace("\n", " "))


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        (["--disback_interval", "10"], 20 + 3 * 10),
        (["--disback_intervals", "1,2,3"], 20 + 6),
        (["--disback_arm", "warm"], 20),
    ],
)
def test_a_schedule_longer_than_the_run_is_told_before_anything_loads(
    caplog: pytest.LogCaptureFixture, more: list[str], needed: int
) -> None:
    parse(*ON, *RECORD, *more, "--train_iters", str(needed + 1))
    assert caplog.text == ""
    parse(*ON, *RECORD, *more, "--train_iters", str(needed))
    assert f"--train_iters {needed}: the run has {needed} steps, but recording" in caplog.text
    assert f"over 4 nodes take {needed}, so it would end before the teacher's turn" in caplog.text


def test_the_schedule_of_a_reused_path_is_held_against_the_run_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = DegradationPath.create(tmp_path, {"weight": torch.ones(3)})
    for step in (1, 2, 3):
        path.append({"weight": torch.ones(3) + step}, step)
    path.finish()
    reuse = ["--disback", "--disback_path", str(tmp_path), "--disback_interval", "5"]
    parse(*reuse, "--train_iters", "11")
    assert caplog.text == ""
    parse(*reuse, "--train_iters", "10")
    assert "over 3 nodes take 10" in caplog.text


def test_a_node_after_the_first_step_of_a_warm_up_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = [*ON, "--disback_record_iters", "20", "--disback_record_at", "1,5,20"]
    parse(*first)
    parse(*ON, "--warmup_step", "500")  # automatic recording keeps none that did not move
    parse(*ON, *RECORD, "--warmup_step", "500")
    parse(*first, "--warmup_step", "500", "--checkpoint_path", "c")  # past its warm-up
    with pytest.raises(SystemExit):
        parse(*first, "--warmup_step", "500")
    assert "--warmup_step 500 the learning rate begins at 0" in capsys.readouterr().err
