"""What a denoiser is told besides the noise level: class labels, or encoded prompts."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TextCondition:
    """Encoded prompts: hidden states (B, L, C) and, for SDXL, pooled embeddings (B, P).

    Moves, splits and is indexed along the batch, as a tensor of labels does.
    """

    hidden: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: slice | Tensor) -> "TextCondition":
        return TextCondition(self.hidden[rows], None if self.pooled is None else self.pooled[rows])

    def to(self, target: torch.device | torch.dtype | Tensor) -> "TextCondition":
        """The same on a device, in a dtype, or as another tensor has both."""
        pooled = None if self.pooled is None else self.pooled.to(target)
        return TextCondition(self.hidden.to(target), pooled)

    def split(self, size: int) -> tuple["TextCondition", ...]:
        """Parts of `size` rows; the last may have fewer."""
        return tuple(self[start : start + size] for start in range(0, len(self), size))

    def chunk(self, num: int) -> tuple["TextCondition", ...]:
        """`num` parts, as `Tensor.chunk` makes them."""
        return self.split(-(-len(self) // num))

    @staticmethod
    def cat(parts: list["TextCondition"]) -> "TextCondition":
        """One batch of all parts; either all have pooled embeddings or none has."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        assert len(pooled) in (0, len(parts))
        hidden = torch.cat([part.hidden for part in parts])
        return TextCondition(hidden, torch.cat(pooled) if pooled else None)


Condition = Tensor | TextCondition
