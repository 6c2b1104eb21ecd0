"""A whole experiment: the teacher, then every arm with every seed, in one process or several."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from disback_plugin.config import Arm
from disback_plugin.config_base import nearest
from disback_plugin.distributed import is_main, on_main
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer.distill import run_arm
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.jobs import run_side_by_side
from disback_plugin.lab.trainer.progress import make_progress
from disback_plugin.lab.trainer.roles import make_accelerator
from disback_plugin.lab.trainer.run_folder import (
    check_folder,
    discard_untrained,
    is_complete,
    locked,
    run_folder,
    run_name,
    write_settings,
)
from disback_plugin.lab.trainer.teacher import ensure_teacher
from disback_plugin.lab.trainer.teacher_files import check_checkpoints
from disback_plugin.lab.trainer.unfinished import unfinished

logger = logging.getLogger("disback")

ARMS: tuple[Arm, ...] = get_args(Arm)


@dataclass(frozen=True)
class RunResult:
    """`was_complete`: the run had come to its end before, nothing was done."""

    arm: Arm
    seed: int
    folder: Path
    was_complete: bool

    def __str__(self) -> str:
        done = "was complete already, nothing to do" if self.was_complete else "complete"
        return f"{run_name(self.arm, self.seed)}: {done}"


def run_experiment(
    config: ExperimentConfig,
    out: str | Path,
    arms: Sequence[Arm] = ARMS,
    seeds: Sequence[int] = (0,),
    resume: bool = False,
    jobs: int = 1,
) -> list[RunResult]:
    """Train the teacher, then run every arm with every seed; results are in `out`.

    jobs: runs at a time, each in a process of its own with cores / jobs threads; under torchrun or
    `accelerate launch` the runs follow each other, each over all processes. Resuming may add arms
    and seeds. Raises RunError (folder not empty, other settings, a failed run), ConfigError, and
    RunInterrupted after Ctrl-C or SIGTERM, when every run under way has written a checkpoint.
    """
    out = Path(out).absolute()
    runs = [(arm, seed) for seed in seeds for arm in _checked(arms)]
    section = config.disback
    if "disback" in arms and os.environ.get("RANK", "0") == "0":
        settings = section.record, section.schedule, config.distill.num_steps
        for line in unfinished("disback", *settings):
            logger.warning("%s", line)
    complete = {run for run in runs if is_complete(run_folder(out, *run))}
    with Interrupt() as interrupt, using_threads(config.num_threads):
        experiment = prepare_experiment(config, out, resume, interrupt)
        left = [run for run in runs if run not in complete]
        if jobs > 1 and len(left) > 1 and int(os.environ.get("WORLD_SIZE", "1")) == 1:
            del experiment  # and its teacher: each process reads its own
            run_side_by_side(config, out, left, jobs, interrupt)
        else:
            progress = make_progress(config.logging.progress, is_main())
            for arm, seed in left:
                run_arm(experiment, arm, seed, interrupt, progress)
    return [
        RunResult(arm, seed, run_folder(out, arm, seed), (arm, seed) in complete)
        for arm, seed in runs
    ]


def prepare_experiment(
    config: ExperimentConfig, out: Path, resume: bool, interrupt: Interrupt
) -> Experiment:
    """Make or check the experiment's folder, and the teacher in it.

    What does not fit each other is found before anything is written; a new experiment that fails
    later, but before its first training step is logged, leaves nothing either.
    """
    check_checkpoints(config)
    accelerator = make_accelerator(config)
    device = str(accelerator.device)
    experiment = Experiment(config, out)
    begins = on_main(lambda: _open(experiment, resume, device), "opening the experiment")
    progress = make_progress(config.logging.progress, accelerator.is_main_process)
    with locked(experiment.teacher_folder):  # where another process has it, nothing is ours
        try:
            ensure_teacher(experiment, accelerator, interrupt, progress)
        except RunInterrupted:
            raise
        except Exception:
            if begins and is_main():
                discard_untrained(out, experiment.teacher_folder.name)
            raise
    return experiment


def _open(experiment: Experiment, resume: bool, device: str) -> bool:
    """Whether the experiment begins here."""
    begins = check_folder(experiment.config, experiment.out, resume)
    if begins:
        experiment.check()
        begins = check_folder(experiment.config, experiment.out, resume)  # it took its time
    write_settings(experiment.config, experiment.out, device)
    return begins


def _checked(arms: Sequence[Arm]) -> Sequence[Arm]:
    for arm in arms:
        if arm not in ARMS:
            raise ConfigError(f"unknown arm {arm!r}; {nearest(arm, list(ARMS))}")
    return arms


@contextmanager
def using_threads(num: int | None) -> Iterator[None]:
    """torch's threads within the context; None: as many as there are."""
    before = torch.get_num_threads()
    if num is not None:
        torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
