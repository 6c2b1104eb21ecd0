"""The teacher of an experiment: denoising score matching on the data (Eq. 5), EMA weights kept."""

import copy
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from disback_plugin.diffusion import denoising_score_matching, diffuse, heun_sample
from disback_plugin.distributed import on_main
from disback_plugin.files import write_tensors
from disback_plugin.lab.config.experiment import TeacherTraining
from disback_plugin.lab.config.training import OptimizerSettings
from disback_plugin.lab.data import DataSet, mirror_half
from disback_plugin.lab.noise import make_noise
from disback_plugin.lab.problems.base import reference_rows
from disback_plugin.lab.results.run_file import REFERENCE, check_teacher, write_reference
from disback_plugin.lab.trainer.batches import choose_metrics, draw_samples, evaluation_noise
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from disback_plugin.lab.trainer.driver import Driver, Line, Rhythm
from disback_plugin.lab.trainer.experiment import WEIGHTS, Experiment
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.network import Tensors, TrainedNetwork, speed_up
from disback_plugin.lab.trainer.progress import Progress
from disback_plugin.lab.trainer.run_folder import clear_run, clear_temps, remember_teacher
from disback_plugin.lab.trainer.sharding import gathered
from disback_plugin.lab.trainer.teacher_files import teacher_metadata, write_source

CHECKPOINT_SIGMA_MAX = 80.0  # far above all data; some networks claim to know 20,000
PASSES = 3  # forward, and backward counted as two


def ensure_teacher(
    experiment: Experiment, accelerator: Accelerator, interrupt: Interrupt, progress: Progress
) -> None:
    """Train (or go on training, or load) the experiment's teacher, unless it is finished."""
    if on_main(lambda: _is_finished(experiment), "looking for the teacher"):
        return
    training, weights = experiment.config.teacher.training, None
    if training is not None:
        weights = _train(experiment, training, accelerator, interrupt, progress)
    on_main(lambda: _finish(experiment, weights, accelerator.device), "sampling")


def _is_finished(experiment: Experiment) -> bool:
    if experiment.has_teacher:
        check_teacher(experiment.teacher_folder)
        remember_teacher(experiment.out, experiment.teacher_folder / REFERENCE)
    clear_temps(experiment.out, experiment.teacher_folder)
    return experiment.has_teacher


def _train(
    experiment: Experiment,
    training: TeacherTraining,
    accelerator: Accelerator,
    interrupt: Interrupt,
    progress: Progress,
) -> dict[str, Tensor]:
    config, folder = experiment.config, experiment.teacher_folder
    checkpoint = CheckpointFolder(folder / "checkpoints").latest()
    if checkpoint is None:
        on_main(lambda: clear_run(folder, ("metrics.jsonl", "checkpoints")), "clearing")
    job = TeacherJob(experiment, training, accelerator)
    rhythm = Rhythm(config.logging.every, None, config.checkpoint)
    Driver(job, folder, rhythm, accelerator, interrupt, progress).run(checkpoint)
    weights = job.weights()
    accelerator.free_memory()
    return weights


class TeacherJob:
    """Teacher training, as a job for the driver."""

    def __init__(
        self,
        experiment: Experiment,
        training: TeacherTraining,
        accelerator: Accelerator,
    ) -> None:
        config, problem = experiment.config, experiment.problem
        self.num_steps, self.batch_size = training.num_steps, training.batch_size
        self.passes: float = 0
        self.training, self.problem, self.accelerator = training, problem, accelerator
        self.sigma_data = config.teacher.sigma_data
        self.noise = make_noise(training.seed, accelerator, config.draw_on_device)
        data = problem.dataset
        assert data is not None
        self.data = data.to(accelerator.device) if isinstance(data, DataSet) else data
        module = speed_up(config.teacher.make(problem), config)
        optimizer = OptimizerSettings(training.betas, training.weight_decay)
        self.teacher = TrainedNetwork("teacher", module, accelerator, optimizer, training.ema_decay)
        self._last: Line = {}

    def train_step(self, step: int) -> list[Line]:
        training = self.training
        self.noise.seed_global(step)
        x0, cond, sigma, eps = self._draw(step)
        x0_hat = self.teacher.network(diffuse(x0, sigma, eps), sigma, cond)
        loss = denoising_score_matching(x0_hat, x0, sigma, training.weighting, self.sigma_data)
        self.accelerator.backward(loss)
        lr = training.lr * training.lr_schedule.factor(step, self.num_steps)
        norm = self.teacher.update(lr, training.clip_grad_norm)
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

    def keep_student(self, step: int, seconds: float) -> None:
        raise AssertionError("there is no student yet")

    def state(self) -> tuple[dict[str, Any], Tensors]:
        return self.teacher.state()

    def restore(self, checkpoint: Checkpoint) -> None:
        self.teacher.restore(checkpoint)

    def weights(self) -> dict[str, Tensor]:
        """The EMA weights, on the CPU; called on every process, whole on the main one."""
        assert self.teacher.ema is not None
        return {k: v.cpu() for k, v in gathered(self.teacher.ema.module.state_dict()).items()}

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
    experiment: Experiment, weights: dict[str, Tensor] | None, device: torch.device
) -> None:
    """Write weights, or where they come from; multi-step samples; and how good these are."""
    config, folder = experiment.config, experiment.teacher_folder
    folder.mkdir(parents=True, exist_ok=True)
    if experiment.source is not None:
        write_source(folder, experiment.source)
    else:
        weights = weights or experiment.teacher.state_dict()
        metadata = teacher_metadata(config, experiment.problem)
        write_tensors(folder / WEIGHTS, weights, metadata)
    samples = _sample(experiment, device)
    write_tensors(folder / "samples.safetensors", samples)
    evaluator = experiment.problem.evaluator(len(samples["samples"]), folder, device)
    metrics = choose_metrics(evaluator(samples["samples"]), config.evaluation.metrics)
    write_reference(folder, metrics)
    remember_teacher(experiment.out, folder / REFERENCE)


def _sample(experiment: Experiment, device: torch.device) -> dict[str, Tensor]:
    """As many samples of the teacher as an evaluation takes and, where there is data, of that."""
    config, problem = experiment.config, experiment.problem
    teacher = copy.deepcopy(experiment.teacher).to(device)
    num_steps, sigma_max = config.teacher.num_sampling_steps, config.teacher.sampling_sigma_max
    if sigma_max is None and config.teacher.checkpoint is not None:
        sigma_max = min(CHECKPOINT_SIGMA_MAX, teacher.sigma_max)
    z = evaluation_noise(0, config.evaluation.num_samples, problem.data_shape)
    samples = draw_samples(
        lambda part, cond: heun_sample(teacher, part, num_steps, cond, sigma_max=sigma_max),
        z,
        problem,
        device,
        config.evaluation.batch_size,
    )
    tensors = {"samples": samples}
    if problem.dataset is not None:
        tensors["data"], _ = problem.dataset.batch(len(z), reference_rows())
    return tensors
