"""Ctrl-C and SIGTERM: every command stops cleanly and says how to go on, in the background too."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from disback_plugin.cli import doctor, main
from tests.tiers import sample_of


def _in_background():
    """As `nohup` and `&` in a script start it: Ctrl-C is ignored, only SIGTERM stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "compare"])
def test_in_the_background_sigterm_stops_cleanly(config, tmp_path, command):
    out = tmp_path / "out"
    settings = ["distill.num_steps=100000", "evaluation.every=100000"]
    more = {"run": ["--arm", "fixed"], "compare": ["--arms", "fixed", "--seeds", "1"]}[command]
    begun = {"run": "runs/*/checkpoints/step_*", "compare": "teacher/reference.json"}[command]
    process = subprocess.Popen(
        [sys.executable, "-m", "disback_plugin", command, config, *settings, *more, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
        preexec_fn=_in_background,
    )
    _wait_for(lambda: list(out.glob(begun)), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    said = {"run": "resume with: disback run", "compare": "stopped; the same command goes on"}
    assert said[command] in printed
    assert "Traceback" not in printed


def test_sigterm_stops_any_command_as_ctrl_c_does(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run", lambda args: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "disback: stopped\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize("jobs", sample_of("1", rest=["2"]))
def test_ctrl_c_leaves_a_run_that_the_printed_command_goes_on_with(config, tmp_path, jobs):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "disback_plugin", "run", str(config), "--out", str(out)]
    command += ["distill.num_steps=1500", "evaluation.every=1500", "--jobs", jobs]
    command += ["--arm", "disback"] if jobs == "1" else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())
    _wait_for(lambda: list(out.glob("runs/*/checkpoints/step_*")), process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    stopped = {file.parts[-2] for file in out.glob("runs/*/checkpoints")}
    steps = {name: _last_step(out / "runs" / name) for name in stopped}
    assert all(0 < step < 1500 for step in steps.values())

    resume = shlex.split(printed.split("resume with: ")[1])
    assert resume[:2] == ["disback", "run"]
    assert resume[-3:] == ["--resume", "--jobs", jobs]
    process = subprocess.Popen([*command[:3], *resume[1:]], env=_environment())
    _wait_for(lambda: all(_last_step(out / "runs" / n) > s for n, s in steps.items()), process)
    # it went on: lines of before are still there, once
    for name in stopped:
        lines = (out / "runs" / name / "metrics.jsonl").read_text().splitlines()
        trained = [line for line in map(json.loads, lines[:-1]) if line["kind"] == "train"]
        assert [line["step"] for line in trained] == [4 * (k + 1) for k in range(len(trained))]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130


def test_under_torchrun_the_command_to_resume_is_torchruns(monkeypatch):
    from disback_plugin.cli.run import _launcher

    assert _launcher() == ["disback"]
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert _launcher() == ["torchrun", "--nproc_per_node", "4", "-m", "disback_plugin"]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert _launcher()[:3] == ["torchrun", "--nnodes", "2"]


def _last_step(run):
    steps = [int(f.name.removeprefix("step_")) for f in run.glob("checkpoints/step_*")]
    return max(steps, default=0)


def _environment():
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def _wait_for(condition, process, seconds=60):
    end = time.time() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.time() < end, "nothing happened in time"
        time.sleep(0.05)
