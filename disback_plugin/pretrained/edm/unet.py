"""What EDM's two U-Nets have in common: interface, ranges of arguments, how labels drop out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from disback_plugin.errors import DisBackError
from disback_plugin.pretrained.edm.blocks import ResidualBlock

# types and ceilings of what a checkpoint may give as arguments, so that none asks for the absurd
Size = Annotated[int, Field(ge=1, le=2**16)]  # pixels, channels
Labels = Annotated[int, Field(ge=0, le=2**20)]  # 0: none
Multiplier = Annotated[int, Field(ge=1, le=64)]
Multipliers = Annotated[Sequence[Multiplier], Field(min_length=1, max_length=12)]
Blocks = Annotated[int, Field(ge=1, le=64)]
Resolutions = Annotated[Sequence[int], Field(max_length=64)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Timesteps = Annotated[int, Field(ge=2, le=10_000)]
Sigma = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Tap = Annotated[float, Field(ge=1e-6, le=1e6)]
Filter = Annotated[Sequence[Tap], Field(min_length=1, max_length=64)]
Precision = Literal["fp16", "bf16"] | None


class UNet(nn.Module, ABC):
    """F(x, noise_labels, class_labels, augment_labels), with the sizes that it was built for."""

    architecture: str  # its name in the literature

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int,
        augment_dim: int,
        label_dropout: float,
    ) -> None:
        super().__init__()
        self.img_resolution = img_resolution
        self.in_channels, self.out_channels = in_channels, out_channels
        self.label_dim, self.augment_dim = label_dim, augment_dim
        self.label_dropout = label_dropout

    def enable_gradient_checkpointing(self) -> None:
        """From now on blocks run again for a backward pass: less memory, the same bits."""
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                block.checkpointing = True

    @abstractmethod
    def embed(
        self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        """All that is known besides the picture, as one vector (B, E) for every block."""

    @abstractmethod
    def predict(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, in_channels, H, W), emb (B, E) -> (B, out_channels, H, W)."""

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """x (B, in_channels, H, W) -> (B, out_channels, H, W) in x's dtype.

        noise_labels (B,), class_labels (B or 1, label_dim) and augment_labels (B, augment_dim) set
        the dtype of the embedding; float32 with x in half precision. Raises DisBackError for
        augmentation labels that the network does not take.
        """
        if augment_labels is not None and augment_labels.shape[1:] != (self.augment_dim,):
            raise DisBackError(
                f"augment_labels must be (B, {self.augment_dim}), not "
                f"{tuple(augment_labels.shape)}; without augmentation leave them out"
            )
        if not self.augment_dim:
            augment_labels = None
        return self.predict(x, self.embed(noise_labels, class_labels, augment_labels))

    def dropped(self, class_labels: Tensor, num: int) -> Tensor:
        """In training, rows of zeros with probability label_dropout, for guidance without class."""
        if not (self.training and self.label_dropout):
            return class_labels
        draw = torch.rand(num, 1, device=class_labels.device)
        return class_labels * (draw >= self.label_dropout).to(class_labels.dtype)
