"""Other ways to use a path, each against the arms of `disback compare` on the same seeds.

    python experiments/cifar16/trials.py TRIAL,TRIAL CONFIG OUT NUM_SEEDS [key=value ...]

OUT and settings are those of a comparison that was run before: the trials' curves join its curves
there, and the table of all is printed, times to thresholds for good. Trials record and walk as the
arm `disback`; while a node is due, what answers is

- node-high: the node above sigma 0.4, the teacher below;
- node-low: the node below sigma 0.4, the teacher above;
- half: the mean of both;
- away: the teacher, and as much again of what it says beyond the node.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.diffusion import Denoiser
from disback_plugin.lab.compare import ArmPlan, BatchedDistillation, compare, make_arm
from disback_plugin.lab.compare.run import CURVES, Bench, run_arm
from disback_plugin.lab.compare.stack import Stack
from disback_plugin.lab.config.experiment import ExperimentConfig, load_config
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.report.sweep_tables import sweep_markdown
from disback_plugin.lab.results.curves import write_curves
from disback_plugin.lab.results.summary import summarise_sweep
from disback_plugin.lab.trainer.batches import BatchSampler
from disback_plugin.lab.trainer.experiment import Experiment

BORDER = 0.4  # of sigma
Mixture = Callable[[Tensor, Tensor, Tensor], Tensor]  # of node's and teacher's answer, by sigma
TRIALS: dict[str, Mixture] = {
    "node-high": lambda node, teacher, sigma: torch.where(sigma > BORDER, node, teacher),
    "node-low": lambda node, teacher, sigma: torch.where(sigma > BORDER, teacher, node),
    "half": lambda node, teacher, sigma: (node + teacher) / 2,
    "away": lambda node, teacher, sigma: 2 * teacher - node,
}
BOTH = ("half", "away")  # need both answers on every sample, a network pass more


class Mixed(Stack):
    """A real score whose answer, a node's or the teacher's, is mixed with the teacher's."""

    def __init__(self, teachers: Sequence[Denoiser], mixture: Mixture) -> None:
        super().__init__(teachers)
        self._teacher, self._mixture = Stack(teachers), mixture

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        sigma = inputs[1]
        assert sigma is not None
        wide = sigma.reshape(*sigma.shape, 1, 1, 1)
        return self._mixture(super().__call__(*inputs), self._teacher(*inputs), wide)


class Trial(BatchedDistillation):
    """Score distillation by the mixture that the arm is named after."""

    def __init__(
        self,
        config: ExperimentConfig,
        problem: Problem,
        teacher: Denoiser,
        drawers: Sequence[BatchSampler],
        plan: ArmPlan,
        student_lr: float | None = None,
    ) -> None:
        super().__init__(config, problem, teacher, drawers, plan, student_lr)
        self.real_score = Mixed([teacher] * len(drawers), TRIALS[plan.name])

    def _update_student(self, step: int, active: Tensor) -> None:
        super()._update_student(step, active)
        if self.plan.name in BOTH:
            self.passes += active * (torch.tensor(self._installed) > 0)


def main() -> None:
    """Run the trials and print the table."""
    names, source, folder, seeds, *overrides = sys.argv[1:]
    config, out, num = load_config(source, overrides), Path(folder), int(seeds)
    lr = config.distill.student_lr
    disback = make_arm("disback", config)
    bench = Bench(Experiment(config, out), num)
    for name in names.split(","):
        curves = run_arm(bench, replace(disback, name=name), lr, loop=Trial)
        write_curves(out / CURVES / f"{name}-lr{lr:g}-seeds{num}.jsonl", curves)
    curves = compare(config, out, ["fixed", "disback"], [lr], num)
    lasting = [curve.lasting for curve in curves]
    print(sweep_markdown(summarise_sweep(lasting, config.evaluation.thresholds)))


if __name__ == "__main__":
    main()
