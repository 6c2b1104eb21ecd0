"""diffusers' UNet2DModel as a network: what `cm:` and `diffusers:` open of images."""

from typing import Any

from torch import Tensor, nn

from disback_plugin.diffusion import class_ids
from disback_plugin.errors import DisBackError


class ImageUNet(nn.Module):
    """A `UNet2DModel` as a network(x, c_noise, labels), ids or one-hot rows.

    A learned variance in its answer is left out.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.num_classes = int(self.config.num_class_embeds or 0)

    @property
    def config(self) -> Any:
        """The settings of the UNet2DModel."""
        return self.unet.config

    def forward(self, x: Tensor, c_noise: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), c_noise (B,), cond (B,) or (B, num_classes) -> (B, C, H, W).

        Raises DisBackError where labels are missing, or given to an unconditional model.
        """
        if cond is not None:
            cond = class_ids(cond, self.num_classes)
        elif self.num_classes:
            raise DisBackError(f"this model needs class labels, 0 to {self.num_classes - 1}")
        return self.unet(x, c_noise, class_labels=cond).sample[:, : x.shape[1]]
