"""Kill -9 at any moment, then resume: bit for bit the run that nobody killed."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disback_plugin import files
from disback_plugin.lab.trainer import RunInterrupted, run_experiment
from disback_plugin.lab.trainer.checkpoint import CheckpointFolder
from disback_plugin.lab.trainer.log import MetricsLog
from disback_plugin.lab.trainer.loop import Distillation, StepResult
from disback_plugin.path import DegradationPath
from tests.lab.trainer.conftest import lines, same_bits, tensors, tiny_config

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed child is a fork")

RUN = Path("runs") / "disback-seed0"


def _kill_self(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_step(step: int) -> Callable[[], None]:
    """Killed within a training step, after the fake score's update, before end_step."""

    def install() -> None:
        train_step, original, now = Distillation.train_step, Distillation._update_fake_score, [-1]

        def noted(self: Distillation, at: int) -> Any:
            now[0] = at
            return train_step(self, at)

        def patched(self: Distillation, *arguments: Any) -> Any:
            result = original(self, *arguments)
            return _kill_self() if now[0] == step else result

        Distillation.train_step = noted  # type: ignore[method-assign]
        Distillation._update_fake_score = patched  # type: ignore[method-assign]

    return install


def _in_write(name: str, occurrence: int, whole: bool) -> Callable[[], None]:
    """Killed while `name` is written for the n-th time: half in its temp file, or before rename."""

    def install() -> None:
        original, seen = files.commit, 0

        def patched(temp: Path, file: Path) -> None:
            nonlocal seen
            seen += file.name == name
            if file.name == name and seen == occurrence:
                if not whole:
                    os.truncate(temp, temp.stat().st_size // 2)
                _kill_self()
            original(temp, file)

        files.commit = patched

    return install


def _after_checkpoint(step: int) -> Callable[[], None]:
    """Killed between a checkpoint's rename and the deletion of the oldest one."""

    def install() -> None:
        original = CheckpointFolder._prune

        def patched(self: CheckpointFolder) -> None:
            if (self.folder / f"step_{step:06d}").exists() and self.folder.parent.name != "teacher":
                _kill_self()
            original(self)

        CheckpointFolder._prune = patched  # type: ignore[method-assign]

    return install


def _in_line(number: int) -> Callable[[], None]:
    """Killed in the middle of a metrics line of the run."""

    def install() -> None:
        original, seen = MetricsLog.write, 0

        def patched(self: MetricsLog, line: dict[str, Any]) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                self._stream.write(b'{"kind": "tra')
                self._stream.flush()
                _kill_self()
            original(self, line)

        MetricsLog.write = patched  # type: ignore[method-assign]

    return install


KILLS = {
    "recording, before the first checkpoint": _in_step(2),
    "recording, after a node newer than the checkpoint": _in_step(5),
    "half a node": _in_write("node_0002.safetensors", 1, whole=False),
    "a node before the manifest names it": _in_write("node_0003.safetensors", 1, whole=True),
    "the path's manifest": _in_write("path.json", 4, whole=True),
    "half a checkpoint's tensors": _in_write("fake_score.safetensors", 2, whole=False),
    "a checkpoint before its manifest": _in_write("manifest.json", 4, whole=True),
    "a checkpoint before the old one is deleted": _after_checkpoint(12),
    "backtracking": _in_step(10),
    "at a switch": _in_step(9),
    "after the last switch": _in_step(14),
    "a line of metrics": _in_line(13),
    "the final student": _in_write("student.safetensors", 5, whole=False),
    "the end of run.json": _in_write("run.json", 2, whole=True),
}


def _run_killed(out: Path, install: Callable[[], None]) -> int:
    """Resume the experiment in a fork that kills itself; returns the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            install()
            run_experiment(tiny_config(), out, ["disback"], resume=True)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """The experiment with a finished teacher and no runs."""
    shutil.copytree(finished, tmp_path / "out", ignore=lambda *_: {"runs"})
    return tmp_path / "out"


def _same_run(out: Path, finished: Path) -> bool:
    """Same student, same path, same metrics lines but for the seconds."""
    folders = (out / RUN, finished / RUN)
    paths = [DegradationPath.open(folder / "path") for folder in folders]
    told = [lines(folder / "metrics.jsonl") for folder in folders]
    for line in (*told[0], *told[1]):
        del line["seconds"]
    nodes = [[node.sha256 for node in path] for path in paths]
    assert told[0] == told[1]
    return nodes[0] == nodes[1] and same_bits(*(tensors(folder) for folder in folders))


@pytest.mark.parametrize("moment", KILLS)
def test_killed_then_resumed_is_bit_identical(out: Path, finished: Path, moment: str) -> None:
    assert _run_killed(out, KILLS[moment]) == signal.SIGKILL
    run_experiment(tiny_config(), out, ["disback"], resume=True)
    assert _same_run(out, finished)


def test_killed_again_and_again(out: Path, finished: Path) -> None:
    for install in (_in_step(3), _in_step(5), _in_step(8), _in_step(13), _in_step(15)):
        assert _run_killed(out, install) == signal.SIGKILL
    run_experiment(tiny_config(), out, ["disback"], resume=True)
    assert _same_run(out, finished)


@pytest.mark.parametrize("step", [2, 7, 12])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_step_and_leaves_a_resumable_run(
    out: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals
) -> None:
    original = Distillation.train_step

    def interrupted(self: Distillation, at: int) -> StepResult:
        if at == step:
            os.kill(os.getpid(), number)
        return original(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "train_step", interrupted)
        with pytest.raises(RunInterrupted, match=f"stopped after step {step + 1} of 16") as stopped:
            run_experiment(tiny_config(), out, ["disback"], resume=True)
    assert stopped.value.folder == out / RUN
    assert (out / RUN / "checkpoints" / f"step_{step + 1:06d}" / "manifest.json").exists()
    run_experiment(tiny_config(), out, ["disback"], resume=True)
    assert _same_run(out, finished)


def test_a_killed_teacher_goes_on_where_it_was(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _run_killed(out, _in_write("manifest.json", 2, whole=True)) == signal.SIGKILL
    assert sorted((out / "teacher" / "checkpoints").glob("step_*"))[0].name == "step_000004"
    run_experiment(tiny_config(), out, ["disback"], resume=True)
    assert _same_run(out, finished)
