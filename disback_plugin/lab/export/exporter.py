"""What every form of export does: write a student, and make its images again without us."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from disback_plugin.lab.export.base import Base
from disback_plugin.lab.sampling import Student
from disback_plugin.lab.sampling.store import Array
from disback_plugin.lab.sampling.student import StatedOptions
from disback_plugin.pretrained.bare import bare_module


@dataclass(frozen=True)
class Trial:
    """What a few images are made of: z (n, *data), labels (n,) or None, n prompts or none."""

    z: Tensor
    labels: Tensor | None
    prompts: Sequence[str]
    device: torch.device


@dataclass(frozen=True)
class Exporter(ABC):
    """A student in one form. files: what it writes its weights into; empty: a folder's own."""

    student: Student
    base: Base
    dtype: torch.dtype

    files: ClassVar[tuple[str, ...]] = ()

    @property
    def module(self) -> Any:
        """The network whose tensors are written."""
        return bare_module(self.student.denoiser)

    @property
    def options(self) -> StatedOptions:
        """What the student is told that its files do not say."""
        return StatedOptions()

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the weights in `dtype`, and what belongs to them, into an empty folder."""

    @abstractmethod
    def images(self, folder: Path, trial: Trial) -> Array:
        """The images (n, H, W, C) that those who load the export make of this noise."""

    @abstractmethod
    def usage(self) -> str:
        """How they do it: code for the model card."""


def round_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Give float32 weights the values that they will have in the file."""
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.to(dtype))


def tensors_in(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state dict in a dtype, on the CPU; whole numbers stay such."""
    return {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype)
        for name, value in module.state_dict().items()
    }


def diffusers_bytes(images: np.ndarray[Any, Any]) -> Array:
    """(n, H, W, C) in [0, 1] -> bytes, as diffusers makes pictures."""
    return (images * 255).round().astype(np.uint8)
