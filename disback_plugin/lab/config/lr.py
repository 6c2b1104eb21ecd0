"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to advance."""

import math
from typing import Literal

from pydantic import Field

from disback_plugin.config_base import StrictModel


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
