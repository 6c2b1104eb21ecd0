"""`disback compare`: arms and learning rates on the same seeds, the seeds of each in one batch."""

import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.compare.arms import ArmPlan, make_arm
from disback_plugin.lab.compare.stack import Stack, label_tensor
from disback_plugin.lab.compare.training import BatchedDistillation
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.metrics import SlicedWasserstein
from disback_plugin.lab.problems import Evaluator
from disback_plugin.lab.results.curves import Curve, CurvePoint, read_curves, write_curves
from disback_plugin.lab.trainer.batches import CHUNK, evaluation_labels, evaluation_noise
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.roles import make_accelerator, make_sampler
from disback_plugin.lab.trainer.run import prepare_experiment, using_threads

CURVES = "curves"


class Bench:
    """What all arms of a comparison share: the seeds' draws, and the latents they are judged on."""

    def __init__(self, experiment: Experiment, num_seeds: int) -> None:
        self.config, self.problem = experiment.config, experiment.problem
        self.teacher, accelerator = experiment.teacher, make_accelerator(self.config)
        self.drawers = [
            make_sampler(self.config, self.problem, seed, accelerator) for seed in range(num_seeds)
        ]
        num, shape = self.config.evaluation.num_samples, self.drawers[0].latent_shape
        evaluator = self.problem.evaluator(num, experiment.teacher_folder)
        self._metric = _primary_metric(self.config.evaluation.primary, evaluator)
        self._z = torch.stack([evaluation_noise(seed, num, shape) for seed in range(num_seeds)])
        labels = evaluation_labels(num, self.problem.num_classes)
        cond = label_tensor(self.problem.condition(labels, self._z.device))
        self._cond = None if cond is None else cond.expand(num_seeds, -1)

    @torch.no_grad()
    def evaluate(self, students: Stack) -> list[float]:
        """The primary metric of stacked students (S,), from the latents the trainer judges with."""
        latents = self._z.split(CHUNK, 1)
        conds = (None,) * len(latents) if self._cond is None else self._cond.split(CHUNK, 1)
        parts = zip(latents, conds, strict=True)
        samples = torch.cat([students(z, cond).float() for z, cond in parts], dim=1)
        return [self._metric(lane) for lane in samples]


def _primary_metric(name: str, evaluator: Evaluator) -> Callable[[Tensor], float]:
    """That metric alone; the sliced Wasserstein distance by its own class, which is quicker."""
    data = getattr(evaluator, "data", None)
    if name == "sliced_wasserstein" and isinstance(data, Tensor):
        return SlicedWasserstein(data)
    return lambda samples: evaluator(samples)[name]


def compare(
    config: ExperimentConfig,
    out: Path,
    arms: Sequence[str],
    student_lrs: Sequence[float],
    num_seeds: int,
    tell: Callable[[str], None] = print,
) -> list[Curve]:
    """Run every arm at every learning rate for seeds 0..num_seeds-1, on the CPU in float32.

    The teacher is trained into `out`, or taken from there. A finished arm's curves are in
    `out`/curves and are not run again; all that lie there are returned. Raises ConfigError (unknown
    arm, or settings that only `disback run` has), RunError (other settings, or curves of another
    number of seeds).
    """
    plans = [make_arm(name, config) for name in arms]
    files = f"*-seeds{num_seeds}.jsonl"
    others = set((out / CURVES).glob("*.jsonl")) - set((out / CURVES).glob(files))
    if others:
        raise RunError(
            f"{out / CURVES} holds curves of another number of seeds ({min(others).name}), which "
            f"cannot be compared with {num_seeds}: give as many, or another --out"
        )
    _check(config)
    with using_threads(config.num_threads):
        with Interrupt() as interrupt:
            experiment = prepare_experiment(config, out, resume=True, interrupt=interrupt)
        bench = Bench(experiment, num_seeds)
        for lr, plan in product(student_lrs or (config.distill.student_lr,), plans):
            file = out / CURVES / f"{plan.name}-lr{lr:g}-seeds{num_seeds}.jsonl"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                started = time.perf_counter()
                write_curves(file, run_arm(bench, plan, lr))
                tell(f"{plan.name} at {lr:g}: {time.perf_counter() - started:.0f} s")
    found = sorted((out / CURVES).glob(files))
    return [curve for file in found for curve in read_curves(file, config.evaluation.primary)]


def _check(config: ExperimentConfig) -> None:
    """Raise ConfigError for what stacked networks would silently leave out."""
    if config.distill.num_accumulation_steps > 1:
        raise ConfigError("compare takes whole batches: set distill.num_accumulation_steps=1")
    if config.mixed_precision != "no":
        raise ConfigError("compare trains in float32: set mixed_precision=no, or use `disback run`")
    if config.distill.dropout and getattr(config.teacher.network, "dropout", False):
        raise ConfigError("compare trains without dropout: set distill.dropout=false")
    if make_accelerator(config).device.type != "cpu":
        raise ConfigError("compare runs on the CPU: set device=cpu, or use `disback run`")


def run_arm(bench: Bench, plan: ArmPlan, student_lr: float) -> list[Curve]:
    """All seeds of one arm, evaluated at the start, at every so many steps and at the end."""
    config, num = bench.config, len(bench.drawers)
    run = BatchedDistillation(config, bench.problem, bench.teacher, bench.drawers, plan, student_lr)
    points: list[list[CurvePoint]] = [[] for _ in range(num)]
    seconds, num_steps = 0.0, config.distill.num_steps

    def record(step: int) -> None:
        for index, value in enumerate(bench.evaluate(run.ema)):
            passes = float(run.passes[index])
            points[index].append(CurvePoint(step, seconds / num, passes, value))

    record(0)
    for step in range(num_steps):
        started = time.perf_counter()
        run.train_step(step)
        seconds += time.perf_counter() - started
        if (step + 1) % config.evaluation.every == 0 or step + 1 == num_steps:
            record(step + 1)
    records = plan.record is not None
    return [
        Curve(
            arm=plan.name,
            seed=drawer.noise.seed,
            metric=config.evaluation.primary,
            points=tuple(points[index]),
            student_lr=student_lr,
            num_nodes=len(run.lanes[index].kept) if records else None,
        )
        for index, drawer in enumerate(bench.drawers)
    ]
