"""One run of an experiment, an arm with a seed: from the initial student to the trained one."""

from pathlib import Path

from accelerate import Accelerator

from disback_plugin.config import Arm
from disback_plugin.distributed import is_main, on_main
from disback_plugin.files import write_json, write_tensors
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.problems.problems import Problem, make_evaluator
from disback_plugin.lab.trainer.accelerate_setup import make_accelerator
from disback_plugin.lab.trainer.checkpoint import CheckpointFolder
from disback_plugin.lab.trainer.distill_job import (
    DistillJob,
    attach,
    make_drawer,
    make_networks,
    student_tensors,
)
from disback_plugin.lab.trainer.driver import Driver, Rhythm
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.loop import Distillation
from disback_plugin.lab.trainer.progress import Progress
from disback_plugin.lab.trainer.residuals import Measure
from disback_plugin.lab.trainer.run_folder import clear_run, is_complete, run_folder, run_name
from disback_plugin.lab.trainer.teacher import FOLDER as TEACHER_FOLDER
from disback_plugin.lab.trainer.teacher import load_teacher
from disback_plugin.lab.trainer.tracking import finish_tracker, start_tracker

STUDENT = "student.safetensors"
_UNSAVED = (
    "path",
    "checkpoints",
    "samples",
    "metrics.jsonl",
    STUDENT,
    "run.json",
)


def run_arm(
    config: ExperimentConfig,
    problem: Problem,
    out: Path,
    arm: Arm,
    seed: int,
    interrupt: Interrupt,
    progress: Progress,
) -> bool:
    """Run, or resume, one arm with one seed; False if it was complete already.

    A run that was killed before its first checkpoint starts again. Raises RunInterrupted when asked
    to stop.
    """
    folder = run_folder(out, arm, seed)
    if is_complete(folder):
        return False
    accelerator = make_accelerator(config)
    checkpoint = CheckpointFolder(folder / "checkpoints").latest()
    accelerator.wait_for_everyone()
    if checkpoint is None:
        on_main(lambda: clear_run(folder, _UNSAVED), f"clearing {folder}")
    on_main(lambda: _write_run(config, folder, arm, seed, "running"), "writing run.json")
    job = _make_job(config, problem, out, arm, seed, accelerator)
    rhythm = Rhythm(config.logging.every, config.evaluation.every, config.checkpoint)
    start_tracker(accelerator, config.logging.wandb, folder, config.name, run_name(arm, seed))
    try:
        Driver(job, folder, rhythm, accelerator, interrupt, progress).run(checkpoint)
        disback = job.loop.disback
        if disback is not None and (checkpoint is None or checkpoint.step < job.num_steps):
            disback.close()
        student = student_tensors(job.loop.networks)
        on_main(lambda: write_tensors(folder / STUDENT, student), f"writing {folder / STUDENT}")
        on_main(lambda: _write_run(config, folder, arm, seed, "complete"), "writing run.json")
    finally:
        finish_tracker(accelerator)
        accelerator.free_memory()
    return True


def _make_job(
    config: ExperimentConfig,
    problem: Problem,
    out: Path,
    arm: Arm,
    seed: int,
    accelerator: Accelerator,
) -> DistillJob:
    """The run at step 0: roles, session, loop; the evaluator on the main process only."""
    folder = run_folder(out, arm, seed)
    networks = make_networks(config, load_teacher(config, problem, out), problem, seed, accelerator)
    drawer = make_drawer(config, problem, seed, accelerator)
    measure = Measure(networks.student, drawer, config.distill, accelerator)
    loop = Distillation(
        networks,
        config,
        drawer,
        accelerator,
        attach(config, arm, networks, folder / "path", measure),
    )
    evaluator = None
    if is_main():
        evaluator = make_evaluator(
            problem, config.evaluation.num_samples, out / TEACHER_FOLDER, accelerator.device
        )
    return DistillJob(config, problem, seed, folder, accelerator, loop, evaluator, measure)


def _write_run(config: ExperimentConfig, folder: Path, arm: Arm, seed: int, status: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "run.json",
        {
            "experiment": config.name,
            "arm": arm,
            "seed": seed,
            "num_steps": config.distill.num_steps,
            "primary": config.evaluation.primary,
            "thresholds": config.evaluation.thresholds,
            "status": status,
        },
    )
