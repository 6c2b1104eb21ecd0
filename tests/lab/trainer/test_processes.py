"""Several processes: data-parallel training, runs side by side, and W&B's own."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer import RunInterrupted, run_experiment
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.jobs import run_side_by_side
from disback_plugin.lab.trainer.roles import make_accelerator
from disback_plugin.lab.trainer.run_folder import lock
from disback_plugin.lab.trainer.trackers import chosen_trackers
from disback_plugin.path import DegradationPath
from tests.lab.trainer.conftest import lines, same_bits, tensors, tiny_config
from tests.ranks import on_ranks
from tests.tiers import sample_of

ROOT = Path(__file__).parents[3]
NAMES = ("disback-seed0", "warm-seed0", "fixed-seed0")


SIGNALLED = """
import os, signal, sys
from disback_plugin.lab.trainer import RunInterrupted
from disback_plugin.lab.trainer.loop import Distillation

original = Distillation.train_step

def patched(self, step):
    if step == 7 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return original(self, step)

Distillation.train_step = patched
script = open({script!r}).read()
try:
    exec(script)
except RunInterrupted as stop:
    assert stop.step == 8
else:
    sys.exit("not interrupted")
Distillation.train_step = original
exec(script)
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _script(tmp_path: Path, call: str, *overrides: str) -> Path:
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config(*overrides).to_yaml())
    script = tmp_path / "script.py"
    script.write_text(
        "from disback_plugin.lab.config.experiment import load_config\n"
        "from disback_plugin.lab.trainer import run_experiment\n"
        f"run_experiment(load_config({str(config)!r}), {str(tmp_path / 'out')!r}, {call})\n"
    )
    return script


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_same_global_batch(
    finished: Path, tmp_path: Path
) -> None:
    script = _script(tmp_path, "['disback']")
    on_ranks(runpy.run_path, str(script))
    one, two = finished / "runs" / "disback-seed0", tmp_path / "out" / "runs" / "disback-seed0"
    single, double = (DegradationPath.open(folder / "path") for folder in (one, two))
    assert [node.step for node in single] == [node.step for node in double] == [1, 3, 6]
    for node in range(1, 4):
        first, second = single.read(node), double.read(node)
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)
    told = [lines(folder / "metrics.jsonl") for folder in (one, two)]
    switches, words = [], []
    for run in told:
        switches.append([(li["step"], li["node"]) for li in run if li["kind"] == "switch"])
        words.append([(li["kind"], li["step"], li["passes"]) for li in run])
    assert switches[0] == switches[1] == [(6, 2), (9, 1), (12, 0)]
    assert words[0] == words[1]
    for first, second in zip(*told, strict=True):
        if first["kind"] == "train":
            assert first["fake_loss"] == pytest.approx(second["fake_loss"], rel=1e-3)
    for name, value in tensors(one).items():
        torch.testing.assert_close(value, tensors(two)[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_runs_side_by_side_give_the_same_bits(finished: Path, tmp_path: Path) -> None:
    results = run_experiment(tiny_config(), tmp_path / "out", jobs=2)
    assert [result.folder.name for result in results] == list(NAMES)
    for name in NAMES:
        assert same_bits(tensors(finished / "runs" / name), tensors(tmp_path / "out/runs" / name))


def _started(run: Path) -> bool:
    return len(lines(run / "metrics.jsonl")) > 5 if (run / "metrics.jsonl").exists() else False


def _is_locked(run: Path) -> bool:
    try:
        lock(run).lock.release()
    except RunError:
        return True
    return False


def _wait(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited a minute for nothing")


@pytest.mark.slow
def test_a_failed_run_is_named_with_its_message_and_stops_the_others(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "runs" / "warm-seed0" / "run.json").unlink()
    state = out / "runs" / "warm-seed0" / "checkpoints" / "step_000016" / "state.json"
    state.write_text(state.read_text().replace("0", "1", 1))
    with pytest.raises(RunError, match=r"run warm-seed0 failed: .*state.json is damaged") as failed:
        run_experiment(tiny_config(), out, seeds=[0, 1], resume=True, jobs=2)
    log = out / "runs" / "warm-seed0" / "process.log"
    assert f"(log: {log})" in str(failed.value)
    assert log.is_file()
    assert not (out / "runs" / "fixed-seed1").exists()


def test_a_process_that_dies_is_a_failed_run_with_its_exit_code(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    expected = "run fixed-seed0 failed: its process ended with exit code 1\n"
    with pytest.raises(RunError, match=expected):
        run_side_by_side(config, tmp_path, [("fixed", 0), ("fixed", 1)], 1, Interrupt())
    assert not (tmp_path / "runs" / "fixed-seed1").exists()


def test_after_an_interrupt_no_process_is_started(config: ExperimentConfig, tmp_path: Path) -> None:
    interrupt = Interrupt()
    interrupt.request()
    with pytest.raises(RunInterrupted, match="fixed-seed0 stopped early"):
        run_side_by_side(config, tmp_path, [("fixed", 0)], 2, interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", sample_of(signal.SIGKILL, rest=[signal.SIGINT]))
def test_the_end_of_the_parent_stops_every_run_with_a_checkpoint(
    finished: Path, tmp_path: Path, number: signal.Signals
) -> None:
    long = ("distill.num_steps=100000", "evaluation.every=100000", "checkpoint.every=50000")
    script = _script(tmp_path, "['disback', 'fixed'], jobs=2", *long)
    process = subprocess.Popen(
        [sys.executable, str(script)], env=_environment(), stderr=subprocess.PIPE, text=True
    )
    runs = [tmp_path / "out" / "runs" / name for name in ("disback-seed0", "fixed-seed0")]
    try:
        _wait(lambda: all(_started(run) for run in runs) or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (RunInterrupted.__name__ in errors) == (number == signal.SIGINT)
    _wait(lambda: not any(_is_locked(run) for run in runs))
    for run in runs:
        newest = max(int(folder.name[5:]) for folder in (run / "checkpoints").iterdir())
        last = lines(run / "metrics.jsonl", "train")[-1]["step"]
        assert newest >= last > newest - 2  # the step at which it stopped; a line every 2


@pytest.mark.slow
def test_wandb_writes_offline_without_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    script = _script(tmp_path, "['fixed']", "logging.wandb={project: test}")
    done = subprocess.run(
        [sys.executable, str(script)],
        env=_environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "out" / "runs" / "fixed-seed0" / "wandb").glob("offline-run-*")
    assert any(file.stat().st_size > 1000 for file in folder.glob("*.wandb"))


def test_wandb_that_is_missing_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("disback_plugin.lab.trainer.trackers.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        chosen_trackers(tiny_config("logging.wandb={}").logging)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        chosen_trackers(tiny_config("logging.tensorboard=true").logging)


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_resume(finished: Path, tmp_path: Path) -> None:
    """One of two processes gets the signal; both stop, and both go on together."""
    script = _script(tmp_path, "['disback'], resume=True")
    signalled = tmp_path / "signalled.py"
    signalled.write_text(SIGNALLED.format(script=str(script)))
    on_ranks(runpy.run_path, str(signalled))
    run = tmp_path / "out" / "runs" / "disback-seed0"
    for name, value in tensors(finished / "runs" / "disback-seed0").items():
        torch.testing.assert_close(value, tensors(run)[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["FSDP", "DeepSpeed"])
def test_a_launch_that_would_cut_networks_up_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
    with pytest.raises(ConfigError, match=f"does not run under {name}: start it with torchrun"):
        make_accelerator(tiny_config())
