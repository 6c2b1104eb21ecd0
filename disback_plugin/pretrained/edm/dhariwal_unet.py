"""ADM (Dhariwal and Nichol 2021, Sec. 3) in EDM's form and with its tensor names."""

from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.pretrained.edm.blocks import BlockStyle, ResidualBlock
from disback_plugin.pretrained.edm.layers import (
    Conv,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    draw_normal,
)
from disback_plugin.pretrained.edm.stages import Decoder, Encoder, Pyramid
from disback_plugin.pretrained.edm.unet import (
    Blocks,
    Labels,
    Multiplier,
    Multipliers,
    Probability,
    Resolutions,
    Size,
    UNet,
)


class DhariwalUNet(UNet):
    """ADM: adaptive group norm, one attention head per 64 channels.

    Resolutions in pixels; label_dim and augment_dim 0 for none. Source of names, defaults and
    initialisation: NVlabs/edm, `training/networks.py`.
    """

    def __init__(
        self,
        img_resolution: Size,
        in_channels: Size,
        out_channels: Size,
        label_dim: Labels = 0,
        augment_dim: Labels = 0,
        model_channels: Size = 192,
        channel_mult: Multipliers = (1, 2, 3, 4),
        channel_mult_emb: Multiplier = 4,
        num_blocks: Blocks = 3,
        attn_resolutions: Resolutions = (32, 16, 8),
        dropout: Probability = 0.10,
        label_dropout: Probability = 0,
    ) -> None:
        super().__init__(
            img_resolution, in_channels, out_channels, label_dim, augment_dim, label_dropout
        )
        width = model_channels * channel_mult_emb
        self.map_noise = PositionalEmbedding(model_channels)
        self.map_augment = Linear(augment_dim, model_channels, bias=False) if augment_dim else None
        self.map_layer0 = Linear(model_channels, width)
        self.map_layer1 = Linear(width, width)
        self.map_label = Linear(label_dim, width, bias=False) if label_dim else None

        widths = [model_channels * multiplier for multiplier in channel_mult]
        pyramid = Pyramid.of(img_resolution, widths, num_blocks, attn_resolutions)
        style = BlockStyle(emb_channels=width, dropout=dropout)
        self.enc = Encoder(pyramid, style, in_channels, widths[0])
        self.dec = Decoder(pyramid, style, self.enc.state_widths, every_attention=True)
        self.out_norm = GroupNorm(widths[0])
        self.out_conv = Conv(widths[0], out_channels, 3)
        self._initialise()

    @property
    def architecture(self) -> str:
        """ADM always."""
        return "ADM"

    def embed(
        self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        """Augmentation joins before the mapping, the label after it."""
        emb = self.map_noise(noise_labels)
        if augment_labels is not None:
            assert self.map_augment is not None
            emb = emb + self.map_augment(augment_labels)
        emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        if self.map_label is not None:
            assert class_labels is not None
            emb = emb + self.map_label(self.dropped(class_labels, emb.shape[0]))
        return F.silu(emb)

    def predict(self, x: Tensor, emb: Tensor) -> Tensor:
        """Down, up, and the picture from the last state."""
        return self.out_conv(F.silu(self.out_norm(self.dec(self.enc(x, emb), emb))))

    def _initialise(self) -> None:
        """Torch's own except: zero for what ends a residual sum, unit normal for the labels."""
        zero: list[nn.Module | None] = [self.out_conv, self.map_augment]
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                zero += [block.conv1, getattr(block, "proj", None)]
        for module in zero:
            if module is not None:
                for parameter in module.parameters():
                    nn.init.zeros_(parameter)
        if self.map_label is not None:
            draw_normal(self.map_label.weight)
