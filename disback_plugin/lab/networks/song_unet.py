"""DDPM++ as the reference trainer calls its networks: network(x, c, cond) with class ids."""

from collections.abc import Sequence

from torch import Tensor, nn

from disback_plugin.diffusion.condition import one_hot_labels
from disback_plugin.errors import ConfigError
from disback_plugin.pretrained.edm.networks import SongUNet


class LabelledSongUNet(nn.Module):
    """SongUNet on square images, told c_noise as it is (as EDM's and VP's published models are).

    data_shape (C, N, N) with N divisible by 2 for every multiplier but the first; num_classes 0
    for unlabelled data. Raises ConfigError for another shape.
    """

    def __init__(
        self,
        data_shape: Sequence[int],
        channels: int,
        multipliers: Sequence[int],
        num_blocks: int,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.0,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        if len(data_shape) != 3 or data_shape[1] != data_shape[2]:
            raise ConfigError(f"song-unet needs square images (C, N, N), not {tuple(data_shape)}")
        self.num_classes = num_classes
        self.unet = SongUNet(
            img_resolution=data_shape[1],
            in_channels=data_shape[0],
            out_channels=data_shape[0],
            label_dim=num_classes,
            model_channels=channels,
            channel_mult=multipliers,
            num_blocks=num_blocks,
            attn_resolutions=attn_resolutions,
            dropout=dropout,
        )

    def forward(self, x: Tensor, c: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, C, N, N), noise level c (B,), cond (B,) ids or None -> (B, C, N, N)."""
        rows = None
        if self.num_classes or cond is not None:
            rows = one_hot_labels(cond, self.num_classes, x.shape[0], c)
        return self.unet(x, c, rows)
