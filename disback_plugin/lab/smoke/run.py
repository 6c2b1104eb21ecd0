"""Runs a config in small: recorded, walked back, stopped and resumed, and checked."""

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.smoke.settings import small_settings
from disback_plugin.lab.trainer.distill import run_arm
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.progress import Progress
from disback_plugin.lab.trainer.run import prepare_experiment, using_threads
from disback_plugin.lab.trainer.run_folder import STUDENT, run_folder


@dataclass(frozen=True)
class SmokeRun:
    """What a smoke run leaves: the experiment's folder, and in it the run of the arm `disback`."""

    out: Path
    num_nodes: int
    stopped_at: int

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return run_folder(self.out, "disback", 0)


def smoke(config: ExperimentConfig, folder: Path) -> SmokeRun:
    """Run `config` in small into `folder`/out, stopped in the middle of the walk and resumed.

    Raises RunError unless every node was recorded, each answered in its turn and at last the
    teacher, and the student is bit for bit that of a run which nobody stopped.
    """
    small = small_settings(config, folder / "standins")
    num_nodes = len(small.disback.record.node_steps)
    stop_at = num_nodes + num_nodes // 2
    whole, out = folder / "whole", folder / "out"
    _run(small, whole, resume=False)
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("runs"))  # on the same teacher
    with suppress(RunInterrupted):
        _run(small, out, resume=True, stop_at=stop_at)
        raise RunError(f"{config.name}: the run did not stop when it was asked to")
    _run(small, out, resume=True)
    done = SmokeRun(out, num_nodes, stop_at)
    _check_walk(done, small.distill.num_steps)
    straight = run_folder(whole, "disback", 0) / STUDENT
    if straight.read_bytes() != (done.run / STUDENT).read_bytes():
        raise RunError(f"{config.name}: the resumed student in {out} is not that in {whole}")
    return done


class _StopAt(Progress):
    """Asks for a stop when so many steps are done."""

    def __init__(self, interrupt: Interrupt, step: int | None) -> None:
        self._interrupt, self._step = interrupt, step

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        if step == self._step:
            self._interrupt.request()


def _run(config: ExperimentConfig, out: Path, resume: bool, stop_at: int | None = None) -> None:
    with Interrupt() as interrupt, using_threads(config.num_threads):
        experiment = prepare_experiment(config, out, resume, interrupt)
        # heeded after the next step
        progress = _StopAt(interrupt, stop_at and stop_at - 1)
        run_arm(experiment, "disback", 0, interrupt, progress)


def _check_walk(done: SmokeRun, num_steps: int) -> None:
    lines = [json.loads(line) for line in (done.run / "metrics.jsonl").read_text().splitlines()]
    recorded = [line["index"] for line in lines if line["kind"] == "node"]
    walked = [line["node"] for line in lines if line["kind"] == "switch"]
    if recorded != list(range(1, done.num_nodes + 1)) or walked != [*recorded[-2::-1], 0]:
        raise RunError(f"{done.run}: recorded the nodes {recorded}, then walked {walked}")
    evaluated = [line["step"] for line in lines if line["kind"] == "eval"]
    if evaluated != [0, num_steps]:
        raise RunError(f"{done.run}: was evaluated at {evaluated}, not at 0 and {num_steps}")
