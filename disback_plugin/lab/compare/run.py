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
from disback_plugin.lab.trainer.batches import evaluation_labels, evaluation_noise
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.roles import make_accelerator, make_sampler
from disback_plugin.lab.trainer.run import prepare_experiment, using_threads
from disback_plugin.lab.trainer.unfinished import unfinished

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
        size = self.config.evaluation.batch_size
        latents = self._z.split(size, 1)
        conds = (None,) * len(latents) if self._cond is None else self._cond.split(size, 1)
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
    for line in unfinished_walks(config, arms):
        tell(f"note: {line}")
    with using_threads(config.num_threads), Interrupt() as interrupt:
        experiment = prepare_experiment(config, out, resume=True, interrupt=interrupt)
        bench = Bench(experiment, num_seeds)
        for lr, plan in product(student_lrs or (config.distill.student_lr,), plans):
            if interrupt.requested:
                raise RunInterrupted(out / CURVES, 0, config.distill.num_steps)
            file = out / CURVES / _file_name(plan.name, lr, num_seeds)
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                started = time.perf_counter()
                write_curves(file, run_arm(bench, plan, lr, interrupt))
                tell(f"{plan.name} at {lr:g}: {time.perf_counter() - started:.0f} s")
    found = sorted((out / CURVES).glob(files))
    return [curve for file in found for curve in _read(file, config.evaluation.primary, num_seeds)]


def unfinished_walks(config: ExperimentConfig, arms: Sequence[str]) -> list[str]:
    """A line for each arm whose walk back does not end within its run."""
    return [
        line
        for plan in (make_arm(name, config) for name in arms)
        if plan.record is not None and plan.schedule is not None
        for line in unfinished(plan.name, plan.record, plan.schedule, config.distill.num_steps)
    ]


def _read(file: Path, metric: str, num_seeds: int) -> list[Curve]:
    """The curves of the arm, rate and seeds that the file's name says; RunError for others."""
    curves = read_curves(file, metric)
    names = {_file_name(curve.arm, curve.student_lr or 0.0, num_seeds) for curve in curves}
    if names != {file.name} or [curve.seed for curve in curves] != list(range(num_seeds)):
        raise RunError(
            f"{file} holds other curves than its name says, or not all of them: it is damaged or"
            " was renamed; delete it and run the comparison again"
        )
    return curves


def _file_name(arm: str, lr: float, num_seeds: int) -> str:
    return f"{arm}-lr{lr:g}-seeds{num_seeds}.jsonl"


def _check(config: ExperimentConfig) -> None:
    """Raise ConfigError for what stacked networks would silently leave out."""
    if config.distill.num_accumulation_steps > 1:
        raise ConfigError("compare takes whole batches: set distill.num_accumulation_steps=1")
    if config.mixed_precision != "no":
        raise ConfigError("compare trains in float32: set mixed_precision=no, or use `disback run`")
    if config.distill.dropout and getattr(config.teacher.network, "dropout", False):
        raise ConfigError("compare trains without dropout: set distill.dropout=false")
    if config.distill.augment is not None:
        raise ConfigError("compare does not augment: set distill.augment=null")
    if config.distill.student_ema_half_life is not None:
        raise ConfigError(
            "compare averages with distill.student_ema_decay: set student_ema_half_life=null"
        )
    if make_accelerator(config).device.type != "cpu":
        raise ConfigError("compare runs on the CPU: set device=cpu, or use `disback run`")


def run_arm(
    bench: Bench,
    plan: ArmPlan,
    student_lr: float,
    interrupt: Interrupt | None = None,
    loop: type[BatchedDistillation] = BatchedDistillation,
) -> list[Curve]:
    """All seeds of one arm, evaluated at the start, at every so many steps and at the end.

    loop: what trains; an experiment may bring its own. Raises RunInterrupted within a step of being
    asked to stop: the arm starts over.
    """
    config, num = bench.config, len(bench.drawers)
    run = loop(config, bench.problem, bench.teacher, bench.drawers, plan, student_lr)
    points: list[list[CurvePoint]] = [[] for _ in range(num)]
    seconds, num_steps = 0.0, config.distill.num_steps

    def record(step: int) -> None:
        for index, value in enumerate(bench.evaluate(run.ema)):
            passes = float(run.passes[index])
            points[index].append(CurvePoint(step, seconds / num, passes, value))

    record(0)
    for step in range(num_steps):
        if interrupt is not None and interrupt.requested:
            raise RunInterrupted(Path(plan.name), 0, num_steps)
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
