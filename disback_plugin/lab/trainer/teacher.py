"""The teacher of an experiment: denoising score matching on the data (Eq. 5), EMA weights kept."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from disback_plugin.diffusion import (
    Denoiser,
    denoising_score_matching,
    diffuse,
    heun_sample,
)
from disback_plugin.distributed import on_main
from disback_plugin.errors import RunError
from disback_plugin.files import read_tensors, write_json, write_tensors
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.training import OptimizerSettings, TeacherTraining
from disback_plugin.lab.data import DataSet, mirror_half
from disback_plugin.lab.noise import make_noise
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.problems.base import reference_rows
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from disback_plugin.lab.trainer.driver import Driver, Line, Rhythm
from disback_plugin.lab.trainer.evaluation import (
    choose_metrics,
    draw_samples,
    evaluation_noise,
)
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.network import Tensors, Trainee
from disback_plugin.lab.trainer.progress import Progress
from disback_plugin.lab.trainer.run_folder import clear_run
from disback_plugin.lab.trainer.speed import speed_up
from disback_plugin.lab.trainer.teacher_file import teacher_metadata
from disback_plugin.lab.trainer.teacher_files import (
    load_again,
    load_source,
    read_source,
    write_source,
)
from disback_plugin.tensors import load_weights

FOLDER = "teacher"
WEIGHTS = "teacher.safetensors"
REFERENCE = "reference.json"  # written last: a teacher with one is complete
CHECKPOINT_SIGMA_MAX = 80.0  # far above all data; some networks claim to know 20,000
PASSES = 3  # forward, and backward counted as two


def ensure_teacher(
    config: ExperimentConfig,
    out: Path,
    accelerator: Accelerator,
    interrupt: Interrupt,
    progress: Progress,
) -> None:
    """Train (or go on training, or load) the teacher into `out`/teacher, unless it is there."""
    folder = out / FOLDER
    if on_main(lambda: (folder / REFERENCE).exists(), "looking for the teacher"):
        return
    if config.teacher.checkpoint is not None:
        on_main(lambda: _finish_checkpoint(config, out, accelerator.device), "sampling")
        return
    problem, training = load_problem(config, out), config.teacher.training
    if training is None:
        assert config.teacher.file is not None
        weights = read_tensors(config.teacher.file, RunError)[0]
        load_weights(config.teacher.make(problem), weights, str(config.teacher.file))
    else:
        checkpoint = CheckpointFolder(folder / "checkpoints").latest()
        if checkpoint is None:
            on_main(lambda: clear_run(folder, ("metrics.jsonl", "checkpoints")), "clearing")
        job = TeacherJob(config, training, problem, accelerator)
        rhythm = Rhythm(config.logging.every, None, config.checkpoint)
        Driver(job, folder, rhythm, accelerator, interrupt, progress).run(checkpoint)
        weights = job.weights()
        accelerator.free_memory()
    on_main(lambda: _finish(config, problem, folder, weights, accelerator.device), "sampling")


def load_problem(config: ExperimentConfig, out: Path) -> Problem:
    """The experiment's problem; one that depends on a checkpoint needs it found before."""
    return config.problem.load(read_source(out / FOLDER))


def load_teacher(config: ExperimentConfig, problem: Problem, out: Path) -> Denoiser:
    """The finished teacher in `out`, frozen, in eval mode, on the CPU."""
    if config.teacher.checkpoint is not None:
        return load_again(config.teacher, out / FOLDER).requires_grad_(False)
    teacher = config.teacher.make(problem)
    file = out / FOLDER / WEIGHTS
    load_weights(teacher, read_tensors(file, RunError)[0], str(file))
    return teacher.requires_grad_(False).eval()


class TeacherJob:
    """Teacher training, as a job for the driver."""

    def __init__(
        self,
        config: ExperimentConfig,
        training: TeacherTraining,
        problem: Problem,
        accelerator: Accelerator,
    ) -> None:
        self.num_steps: int = training.num_steps
        self.passes: float = 0
        self.training, self.problem, self.accelerator = training, problem, accelerator
        self.sigma_data = config.teacher.sigma_data
        self.noise = make_noise(training.seed, accelerator, config.draw_on_device)
        data = problem.dataset
        assert data is not None
        self.data = data.to(accelerator.device) if isinstance(data, DataSet) else data
        module = speed_up(config.teacher.make(problem), config)
        optimizer = OptimizerSettings(training.betas, training.weight_decay)
        self.trainee = Trainee("teacher", module, accelerator, optimizer, training.ema_decay)
        self._last: Line = {}

    def train_step(self, step: int) -> list[Line]:
        training = self.training
        self.noise.seed_global(step)
        x0, cond, sigma, eps = self._draw(step)
        x0_hat = self.trainee.network(diffuse(x0, sigma, eps), sigma, cond)
        loss = denoising_score_matching(x0_hat, x0, sigma, training.weighting, self.sigma_data)
        self.accelerator.backward(loss)
        lr = training.lr * training.lr_schedule.factor(step, self.num_steps)
        norm = self.trainee.update(lr, training.clip_grad_norm)
        self.passes += PASSES
        self._last = {"loss": loss.detach(), "grad_norm": norm}
        return []

    def status(self) -> Line:
        loss = self.accelerator.reduce(self._last["loss"], reduction="mean")
        return {"loss": float(loss), "grad_norm": float(self._last["grad_norm"])}

    def evaluate(self, step: int) -> dict[str, float]:
        raise AssertionError("the teacher is evaluated once, when it is finished")

    def diagnose(self, step: int) -> list[Line]:
        return []

    def state(self) -> tuple[dict[str, Any], Tensors]:
        return self.trainee.state()

    def restore(self, checkpoint: Checkpoint) -> None:
        self.trainee.restore(checkpoint)

    def weights(self) -> dict[str, Tensor]:
        """The EMA weights, on the CPU."""
        assert self.trainee.ema is not None
        return {k: v.cpu() for k, v in self.trainee.ema.module.state_dict().items()}

    def _draw(self, step: int) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """This rank's rows of a batch of data (x0, labels), noise levels and noise."""
        noise, size, device = self.noise, self.training.batch_size, self.accelerator.device
        x0, labels = self.data.batch(size, noise.generator(step, "teacher/data"))
        if self.training.x_flip:
            x0 = mirror_half(x0, noise.generator(step, "teacher/flip"))
        sigma = self.training.sigmas.sample(size, noise.generator(step, "teacher/sigma"))
        eps = noise.normal(step, "teacher/eps", (size, *self.problem.data_shape))
        cond = None
        if self.problem.num_classes:
            assert labels is not None
            cond = noise.share(labels).to(device)
        return noise.share(x0).to(device), cond, noise.share(sigma).to(device), eps.to(device)


def _finish(
    config: ExperimentConfig,
    problem: Problem,
    folder: Path,
    weights: dict[str, Tensor],
    device: torch.device,
) -> None:
    """Write the weights, multi-step samples and how good these are."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, weights, teacher_metadata(config, problem))
    teacher = config.teacher.make(problem)
    load_weights(teacher, weights, WEIGHTS)
    _sample(config, problem, folder, teacher, device)


def _finish_checkpoint(config: ExperimentConfig, out: Path, device: torch.device) -> None:
    """Write where the teacher comes from, multi-step samples and how good these are."""
    teacher, source = load_source(config.teacher)
    write_source(out / FOLDER, source)
    _sample(config, load_problem(config, out), out / FOLDER, teacher, device)


def _sample(
    config: ExperimentConfig,
    problem: Problem,
    folder: Path,
    teacher: Denoiser,
    device: torch.device,
) -> None:
    teacher.requires_grad_(False).eval().to(device)
    num_steps, chosen = config.teacher.num_sampling_steps, config.evaluation
    sigma_max = config.teacher.sampling_sigma_max
    if sigma_max is None and config.teacher.checkpoint is not None:
        sigma_max = min(CHECKPOINT_SIGMA_MAX, teacher.sigma_max)
    z = evaluation_noise(0, chosen.num_samples, problem.data_shape)
    samples = draw_samples(
        lambda part, cond: heun_sample(teacher, part, num_steps, cond, sigma_max=sigma_max),
        z,
        problem,
        device,
    )
    tensors = {"samples": samples}
    if problem.dataset is not None:
        tensors["data"], _ = problem.dataset.batch(len(z), reference_rows())
    write_tensors(folder / "samples.safetensors", tensors)
    evaluator = problem.evaluator(chosen.num_samples, folder, device)
    write_json(folder / REFERENCE, choose_metrics(evaluator(samples), chosen.metrics))
