"""A batch of seeds trains each lane as the reference trainer trains that seed."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from disback_plugin.config import Arm
from disback_plugin.lab.compare import BatchedDistillation, make_arm
from disback_plugin.lab.compare.stack import Stack
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer.loop import Distillation
from disback_plugin.lab.trainer.residuals import Residuals
from disback_plugin.lab.trainer.roles import attach, make_networks, make_sampler
from tests.lab.trainer.conftest import tiny_config

pytestmark = pytest.mark.slow

SEEDS = (0, 3, 5)
NUM_STEPS = 40
WALK = "disback.schedule={name: adaptive, cap: 6, every: 2}"
ADAPTIVE = (  # every lane records and walks
    "disback.record={num_steps: 8, auto: {min_loss: 0.0, common: 1.0, noise: 1.0, stop_at: 0.6}}",
    WALK,
)
ALIKE = (  # the students are shifted: the teacher pulls all samples alike, nothing is recorded
    "disback.record={num_steps: 8, auto: {min_loss: 0.1, common: 0.05}}",
    WALK,
    "student.offset=[6,0]",
    "distill.batch_size=64",
    "distill.student_lr=1e-2",
    "distill.fake_lr_schedule={kind: cosine}",
)
SGD_WITH_MOMENTUM = ("distill.student_optimizer=sgd", "distill.student_momentum=0.9")
OVERRIDES = (
    f"distill.num_steps={NUM_STEPS}",
    "distill.student_lr=5e-3",
    "distill.fake_lr=3e-3",
    "distill.weight_decay=0.01",
    "distill.clip_grad_norm=0.5",
)


def _batched(config: ExperimentConfig, arm: str, seeds: Sequence[int]) -> BatchedDistillation:
    problem = config.problem.load()
    teacher = config.teacher.make(problem)
    teacher.requires_grad_(False).eval()
    accelerator = Accelerator(cpu=True)
    drawers = [make_sampler(config, problem, seed, accelerator) for seed in seeds]
    return BatchedDistillation(config, problem, teacher, drawers, make_arm(arm, config))


def _trained(
    config: ExperimentConfig, arm: Arm, seed: int, folder: Path
) -> tuple[Distillation, float]:
    """The reference trainer's loop, run to the end, and its network passes."""
    problem = config.problem.load()
    teacher = config.teacher.make(problem)
    teacher.requires_grad_(False).eval()
    accelerator = Accelerator(cpu=True)
    networks = make_networks(config, teacher, problem, seed, accelerator)
    drawer = make_sampler(config, problem, seed, accelerator)
    measure = Residuals(networks.student, drawer, config.distill, accelerator)
    disback = attach(config, arm, networks, folder, measure)
    loop = Distillation(networks, config, drawer, accelerator, disback)
    passes = sum(loop.train_step(step).passes for step in range(config.distill.num_steps))
    return loop, passes + measure.passes


def _assert_equal(found: Stack, lane: int, due: dict[str, Tensor]) -> None:
    for name, value in found.params.items():
        torch.testing.assert_close(value[lane].detach(), due[name].detach(), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("arm", "trained_as", "more"),
    [
        ("fixed", "fixed", ()),
        ("disback", "disback", ()),
        ("warm", "warm", ()),
        ("adaptive", "disback", ADAPTIVE),
        ("disback", "disback", ("distill.num_fake_updates=2", "distill.record_lr=1e-3")),
        ("disback", "disback", ("distill.student_optimizer=sgd",)),
        ("adaptive", "disback", (*ADAPTIVE, *SGD_WITH_MOMENTUM)),
        ("adaptive", "disback", (*ADAPTIVE, "distill.record_batch_size=2")),
        ("adaptive", "disback", ALIKE),
    ],
)
def test_each_lane_is_the_trainers_run_of_its_seed(
    arm: str, trained_as: Arm, more: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny_config(*OVERRIDES, *more)
    batch = _batched(config, arm, SEEDS)
    start = batch.student.snapshot()
    walked: set[int] = set()
    for step in range(NUM_STEPS):
        batch.train_step(step)
        walked |= {lane.node for lane in batch.lanes}
    assert (walked != {0}) == (arm in ("disback", "adaptive") and more != ALIKE)
    for lane, seed in enumerate(SEEDS):
        loop, passes = _trained(config, trained_as, seed, tmp_path / f"seed{seed}")
        assert float(batch.passes[lane]) == pytest.approx(passes)
        networks = loop.networks
        _assert_equal(batch.student, lane, networks.student.raw.state_dict())
        _assert_equal(batch.fake_score, lane, networks.fake_score.raw.state_dict())
        assert networks.student.ema is not None
        _assert_equal(batch.ema, lane, networks.student.ema.module.state_dict())
        if loop.disback is not None and loop.disback.path is not None:
            assert batch.lanes[lane].kept == [node.step for node in loop.disback.path]
    if more == ALIKE:
        assert {lane.num_record_steps for lane in batch.lanes} == {0}
    assert any(not torch.allclose(start[k], v, atol=1e-3) for k, v in batch.student.params.items())
