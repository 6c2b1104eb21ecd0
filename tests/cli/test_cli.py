"""The console script: every command on a tiny experiment, and the words for what goes wrong."""

import importlib.metadata
import json
import re
import shutil

import pytest
import yaml

from disback_plugin.cli import demo, doctor, main
from disback_plugin.errors import count
from disback_plugin.lab.config.experiment import parse_config
from disback_plugin.path import DegradationPath
from tests.cli.conftest import TINY


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished experiment with all arms and two seeds."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    arguments = ["run", str(folder / "tiny.yaml"), "--seeds", "2", "--jobs", "1"]
    assert main([*arguments, "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_run_writes_report_summary_and_every_run(finished):
    assert sorted(run.name for run in (finished / "runs").iterdir()) == [
        *("disback-seed0", "disback-seed1", "fixed-seed0", "fixed-seed1"),
        *("warm-seed0", "warm-seed1"),
    ]
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["budget"] == 24
    assert set(summary["arms"]) == {"fixed", "warm", "disback"}
    assert "<html" in (finished / "report.html").read_text()


def test_run_prints_the_table_and_where_the_report_is(finished, capsys):
    assert main(["report", str(finished)]) == 0
    printed = capsys.readouterr().out
    for word in ("fixed", "warm", "disback", "sliced_wasserstein", f"{finished}/report.html"):
        assert word in printed
    assert "Student's t over paired seeds, from 3 on; from 10 on the seeds are resampled" in printed


def test_running_again_with_resume_does_nothing_and_says_so(finished, capsys):
    before = (finished / "runs/disback-seed0/student.safetensors").stat().st_mtime_ns
    config = str(finished.parent / "tiny.yaml")
    arguments = ["run", config, "--seeds", "2", "--out", str(finished), "--resume"]
    assert main(arguments) == 0
    assert "disback-seed0: was complete already, nothing to do" in capsys.readouterr().err
    assert (finished / "runs/disback-seed0/student.safetensors").stat().st_mtime_ns == before


def test_a_folder_with_results_is_not_overwritten(finished, capsys):
    config = str(finished.parent / "tiny.yaml")
    assert main(["run", config, "--out", str(finished)]) == 2
    assert "is not empty: resume it (--resume)" in capsys.readouterr().err


def test_overrides_may_stand_before_and_after_options(config, tmp_path):
    out = tmp_path / "out"
    arguments = ["run", str(config), "distill.num_steps=8", "--arm", "fixed", "--out", str(out)]
    assert main([*arguments, "distill.student_lr=1e-5"]) == 0
    saved = yaml.safe_load((out / "config.yaml").read_text())["distill"]
    assert (saved["num_steps"], saved["student_lr"]) == (8, 1e-5)
    assert [run.name for run in (out / "runs").iterdir()] == ["fixed-seed0"]


def test_path_show_prints_a_line_a_node(finished, capsys):
    assert main(["path", "show", str(finished / "runs/disback-seed0/path")]) == 0
    printed = capsys.readouterr().out
    assert "3 nodes, complete, codec full" in printed
    rows = [line.split() for line in printed.splitlines() if "of changed weights" in line]
    assert [(int(row[0]), int(row[1])) for row in rows] == [(1, 2), (2, 4), (3, 6)]


def test_path_show_marks_a_node_of_another_size_and_points_to_verify(finished, tmp_path, capsys):
    folder = tmp_path / "path"
    shutil.copytree(finished / "runs/disback-seed0/path", folder)
    assert main(["path", "show", str(folder)]) == 0
    assert "verify" not in capsys.readouterr().out
    (folder / "node_0001.safetensors").unlink()
    last = folder / "node_0003.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    assert main(["path", "show", str(folder)]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "of changed weights" in line]
    assert [line.endswith("  <- cannot be read") for line in rows] == [True, False, True]
    assert re.search(r"node_0001\.safetensors is missing, though the manifest lists it", printed)
    assert re.search(r"node_0003\.safetensors is torn: \d+ bytes, the manifest says \d+", printed)
    assert printed.endswith(f"to check every byte: disback path verify {folder}\n")


def test_one_of_a_thing_is_not_called_many(finished, tmp_path, capsys):
    folder = tmp_path / "path"
    shutil.copytree(finished / "runs/disback-seed0/path", folder)
    DegradationPath.open(folder).truncate(1)
    for action, said in (("show", "1 node, unfinished"), ("verify", "1 node, 0 problems")):
        assert main(["path", action, str(folder)]) == 0
        assert said in capsys.readouterr().out
    DegradationPath.open(folder).finish()
    assert main(["path", "show", str(folder)]) == 0
    assert "1 node, complete" in capsys.readouterr().out
    (folder / "node_0001.safetensors").unlink()
    assert main(["path", "verify", str(folder)]) == 1
    assert "1 node, 1 problem\n" in capsys.readouterr().out
    assert (count(1, "class", "classes"), count(2, "class", "classes")) == ("1 class", "2 classes")


def test_path_verify_and_repair_tell_damage_by_exit_code(finished, tmp_path, capsys):
    folder = tmp_path / "path"
    shutil.copytree(finished / "runs/disback-seed0/path", folder)
    assert main(["path", "verify", str(folder)]) == 0
    last = folder / "node_0003.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    assert main(["path", "verify", str(folder)]) == 1
    assert "node_0003.safetensors is torn" in capsys.readouterr().out
    assert main(["path", "repair", str(folder)]) == 0
    assert main(["path", "verify", str(folder)]) == 0
    assert main(["path", "verify", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "no such config file: nowhere.yaml"),
        (["run", "CONFIG", "distill.student_ler=1"], "did you mean 'student_lr'"),
        (["run", "CONFIG", "word"], "'word' is neither an option nor key=value"),
        (["run", "CONFIG", "distill.num_steps=5"], "must be less"),
        (["report", "nowhere"], "nowhere"),
        (["path", "show", "nowhere"], "nowhere is no degradation path"),
    ],
)
def test_user_errors_are_one_message_and_exit_code_2(config, arguments, message, capsys):
    assert main([str(config) if word == "CONFIG" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("disback: error: ")
    assert message in error


def test_a_loop_of_links_is_an_error_of_ours(tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")
    loop = str(tmp_path / "loop")
    for arguments in (["report", loop], ["path", "repair", loop], ["run", loop]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("disback: error: ")


def test_unknown_options_are_refused(config, capsys):
    with pytest.raises(SystemExit):
        main(["run", str(config), "--seedz", "3"])
    assert "unrecognized arguments: --seedz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", str(config), "--seeds", "0"])
    assert "'0' is not a number above 0" in capsys.readouterr().err


def test_doctor_names_what_is_missing_and_what_to_install(monkeypatch, capsys):
    assert main(["doctor"]) == 0
    real = importlib.metadata.version

    def without(package):
        if package in ("peft", "safetensors"):
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", without)
    capsys.readouterr()
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "pip install 'disback_plugin[lora]'" in printed
    assert "missing: safetensors" in printed
    assert "generic" in printed


def test_a_missing_package_is_named_with_what_to_install(monkeypatch, capsys):
    def run(args):
        raise ModuleNotFoundError("No module named 'accelerate'", name="accelerate")

    monkeypatch.setattr(doctor, "run", run)
    assert main(["doctor"]) == 2
    assert "'accelerate' is missing" in capsys.readouterr().err


def test_the_demo_settings_are_valid_and_a_short_demo_runs(tmp_path, monkeypatch, capsys):
    settings = demo.demo_settings()
    parse_config(settings, "demo.yaml")
    short = {
        **settings,
        "teacher": {**settings["teacher"], "training": {"num_steps": 5}, "num_sampling_steps": 2},
        "distill": {
            **settings["distill"],
            "num_steps": settings["disback"]["record"]["num_steps"] + 3,
        },
        "evaluation": {**settings["evaluation"], "every": 1000, "num_samples": 70},
    }
    monkeypatch.setattr(demo, "demo_settings", lambda: short)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--seeds", "1", "--jobs", "1"]) == 0
    assert {"report.html", "summary.json", "figures", "runs"} <= {f.name for f in out.iterdir()}
    assert "disback" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "x"), "x: No space left on device; make room"),
        (OSError(13, "Permission denied", "x"), "x: Permission denied; change its permissions"),
        (OSError(20, "Not a directory", "x/y"), "x/y: Not a directory; a part of it is a file"),
        (OSError(5, "Input/output error", "x"), "x: Input/output error"),
        (OSError("other"), "other"),
    ],
)
def test_what_the_system_refuses_is_told_with_what_to_do(error, said, monkeypatch, capsys):
    def run(args):
        raise error

    monkeypatch.setattr(doctor, "run", run)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith(f"disback: error: {said}")


def test_the_home_folder_is_known_where_the_shell_leaves_it_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["report", "~/runs"]) == 2
    assert f"no run in {tmp_path}/runs" in capsys.readouterr().err
