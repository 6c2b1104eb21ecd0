"""Settings of the training loops, the teacher's own and distillation, with optimizers and rates."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from disback_plugin.config_base import StrictModel, known_name
from disback_plugin.diffusion import WEIGHTINGS, LogNormal, SigmaSampler
from disback_plugin.errors import ConfigError

Betas = tuple[float, float]
USUAL_EMA_DECAY = 0.99


class LRSchedule(StrictModel):
    """Linear warm-up, then `constant`, or `linear` / `cosine` decay to `final` times the peak."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    num_warmup_steps: int = Field(default=0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)

    def factor(self, step: int, num_steps: int) -> float:
        """What the peak learning rate is multiplied by at `step` in [0, num_steps)."""
        if step < self.num_warmup_steps:
            return (step + 1) / (self.num_warmup_steps + 1)
        if self.kind == "constant":
            return 1.0
        decay_steps = max(num_steps - self.num_warmup_steps, 1)
        done = min((step - self.num_warmup_steps) / decay_steps, 1.0)
        left = 1 - done if self.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.final + (1 - self.final) * left


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with `betas`, unless `momentum` is given: then SGD with it, 0 for none.

    weight_decay: decoupled in AdamW, whose 0 makes it Adam; in SGD a term of the gradient.
    eight_bit: AdamW with moments in 8 bits, of bitsandbytes.
    """

    betas: tuple[float, float]
    weight_decay: float = 0.0
    momentum: float | None = None
    eight_bit: bool = False

    def make(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Of torch, as one fused kernel: a small network's step is all overhead.

        ConfigError where 8 bits are asked for and bitsandbytes is not here, or does not load.
        """
        decay, params = self.weight_decay, list(parameters)
        if self.eight_bit:
            return _bitsandbytes().AdamW8bit(params, betas=self.betas, weight_decay=decay)
        if self.momentum is None:
            return AdamW(params, betas=self.betas, weight_decay=decay, fused=True)
        return SGD(params, momentum=self.momentum, weight_decay=decay, fused=True)


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except Exception as error:  # it looks for the machine's libraries while it is imported
        raise ConfigError(
            f"optimizer adamw8bit is bitsandbytes', which cannot be used here ({error}): run pip "
            "install bitsandbytes, or ask for adamw"
        ) from None
    return bitsandbytes.optim


class TeacherTraining(StrictModel):
    """Denoising score matching on the data (Eq. 5) with an EMA of the weights.

    x_flip: images (C, H, W) are mirrored, left to right, with probability one half.
    """

    num_steps: int = Field(gt=0)
    batch_size: int = Field(default=128, gt=0)
    lr: float = Field(default=1e-3, gt=0)
    lr_schedule: LRSchedule = LRSchedule()
    betas: Betas = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_grad_norm: float | None = Field(default=None, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    sigmas: SigmaSampler = LogNormal()
    weighting: str = "edm"
    x_flip: bool = False
    seed: int = 0

    _weighting = field_validator("weighting")(lambda name: known_name(name, list(WEIGHTINGS)))


class DistillConfig(StrictModel):
    """The student's and the fake score's training; `num_steps` includes the recording steps.

    record_lr, record_batch_size: the fake score's while recording (default: fake_lr, batch_size).
        At a high rate nodes are noise; a smaller batch makes recording cheaper.
    student_lr_schedule, fake_lr_schedule: over the student's updates, which begin after recording.
    student_optimizer: `adamw` with `student_betas`, or `sgd` with `student_momentum`, which the
        paper takes for consistency models. The fake score's is AdamW. `adamw8bit`: AdamW with its
        moments in 8 bits (bitsandbytes), a quarter of their memory.
    student_ema_decay: of the average of the student's weights, a step. Or, as in EDM's code,
        student_ema_half_life, in images, at most student_ema_rampup times the images so far (EDM:
        0.05).
    augment: the fake score trains on moved images, and is told how (EDM's augmentation), each kind
        of move with this probability; for EDM networks that know the labels. Diff-Instruct: 0.12.
    dropout: student and fake score train with the dropout that their networks have (EDM's do, and
    Diff-Instruct keeps it), or without, as in DMD2.
    """

    num_steps: int = Field(gt=0)
    batch_size: int = Field(default=128, gt=0)
    num_accumulation_steps: int = Field(default=1, gt=0)
    student_lr: float = Field(default=1e-4, gt=0)
    fake_lr: float = Field(default=1e-4, gt=0)
    record_lr: float | None = Field(default=None, gt=0)
    record_batch_size: int | None = Field(default=None, gt=0)
    student_lr_schedule: LRSchedule = LRSchedule()
    fake_lr_schedule: LRSchedule = LRSchedule()
    student_optimizer: Literal["adamw", "adamw8bit", "sgd"] = "adamw"
    student_betas: Betas = (0.0, 0.999)
    student_momentum: float = Field(default=0.0, ge=0, lt=1)
    fake_optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    fake_betas: Betas = (0.0, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    sigmas: SigmaSampler = LogNormal()
    fake_sigmas: SigmaSampler | None = None  # default: as `sigmas`
    fake_weighting: str = "edm"
    num_fake_updates: int = Field(default=1, gt=0)
    clip_grad_norm: float | None = Field(default=None, gt=0)
    student_ema_decay: float = Field(default=USUAL_EMA_DECAY, ge=0, lt=1)
    student_ema_half_life: float | None = Field(default=None, gt=0)
    student_ema_rampup: float | None = Field(default=None, gt=0)
    augment: float | None = Field(default=None, gt=0, le=1)
    dropout: bool = True

    _weighting = field_validator("fake_weighting")(lambda name: known_name(name, list(WEIGHTINGS)))

    @model_validator(mode="after")
    def _check(self) -> "DistillConfig":
        if self.student_momentum and self.student_optimizer != "sgd":
            raise ValueError(
                f"student_momentum={self.student_momentum:g} is of student_optimizer=sgd; "
                "adamw has student_betas"
            )
        if self.record_batch_size is not None and self.record_batch_size > self.batch_size:
            raise ValueError(
                f"record_batch_size={self.record_batch_size} is more than batch_size="
                f"{self.batch_size}"
            )
        if self.student_ema_half_life is None and self.student_ema_rampup is not None:
            raise ValueError("student_ema_rampup shortens student_ema_half_life: give that too")
        if self.student_ema_half_life is not None and self.student_ema_decay != USUAL_EMA_DECAY:
            raise ValueError("give one of student_ema_decay and student_ema_half_life")
        return self

    def ema_decay(self, num_updates: int) -> float:
        """The decay of the student's average at its update number `num_updates`, from 0.

        Half-life H in images: 0.5^(batch / min(H, rampup * images before)), 0 at first with one.
        """
        if self.student_ema_half_life is None:
            return self.student_ema_decay
        half_life = self.student_ema_half_life
        if self.student_ema_rampup is not None:
            half_life = min(half_life, num_updates * self.batch_size * self.student_ema_rampup)
        return 0.5 ** (self.batch_size / half_life) if half_life else 0.0

    @property
    def student_optimizer_settings(self) -> OptimizerSettings:
        """What makes the student's optimizer."""
        momentum = self.student_momentum if self.student_optimizer == "sgd" else None
        eight_bit = self.student_optimizer == "adamw8bit"
        return OptimizerSettings(self.student_betas, self.weight_decay, momentum, eight_bit)

    @property
    def fake_optimizer_settings(self) -> OptimizerSettings:
        """What makes the fake score's optimizer."""
        eight_bit = self.fake_optimizer == "adamw8bit"
        return OptimizerSettings(self.fake_betas, self.weight_decay, eight_bit=eight_bit)
