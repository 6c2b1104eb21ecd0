"""DDPM++ and NCSN++ (Song et al. 2021, Appendix H) and ADM (Dhariwal and Nichol 2021, Sec. 3).

In EDM's form and with its tensor names.
"""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.pretrained.edm.blocks import BlockStyle, ResidualBlock
from disback_plugin.pretrained.edm.layers import (
    Conv,
    FourierEmbedding,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    draw_normal,
)
from disback_plugin.pretrained.edm.stages import (
    Decoder,
    Encoder,
    EncoderType,
    Pyramid,
)
from disback_plugin.pretrained.edm.unet import (
    Blocks,
    Filter,
    Labels,
    Multiplier,
    Multipliers,
    Probability,
    Resolutions,
    Size,
    UNet,
)


class SongUNet(UNet):
    """DDPM++ by default; NCSN++ with `fourier`, `residual`, channel_mult_noise 2, [1, 3, 3, 1].

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
        model_channels: Size = 128,
        channel_mult: Multipliers = (1, 2, 2, 2),
        channel_mult_emb: Multiplier = 4,
        num_blocks: Blocks = 4,
        attn_resolutions: Resolutions = (16,),
        dropout: Probability = 0.10,
        label_dropout: Probability = 0,
        embedding_type: Literal["positional", "fourier"] = "positional",
        channel_mult_noise: Multiplier = 1,
        encoder_type: EncoderType = "standard",
        decoder_type: Literal["standard", "skip"] = "standard",
        resample_filter: Filter = (1, 1),
    ) -> None:
        super().__init__(
            img_resolution, in_channels, out_channels, label_dim, augment_dim, label_dropout
        )
        self.architecture = "NCSN++" if embedding_type == "fourier" else "DDPM++"
        noise, width = model_channels * channel_mult_noise, model_channels * channel_mult_emb
        self.map_noise: nn.Module = (
            FourierEmbedding(noise)
            if embedding_type == "fourier"
            else PositionalEmbedding(noise, endpoint=True, sines_first=True)
        )
        self.map_label = Linear(label_dim, noise) if label_dim else None
        self.map_augment = Linear(augment_dim, noise, bias=False) if augment_dim else None
        self.map_layer0 = Linear(noise, width)
        self.map_layer1 = Linear(width, width)

        widths = [model_channels * multiplier for multiplier in channel_mult]
        pyramid = Pyramid.of(img_resolution, widths, num_blocks, attn_resolutions)
        style = BlockStyle(
            emb_channels=width,
            dropout=dropout,
            scale=math.sqrt(0.5),
            eps=1e-6,
            adaptive_scale=False,
            num_heads=1,
            taps=resample_filter,
            project_resampled=True,
        )
        self.enc = Encoder(pyramid, style, in_channels, model_channels, encoder_type)
        every = decoder_type == "skip"
        self.dec = Decoder(pyramid, style, self.enc.state_widths, False, out_channels, every)
        self._initialise()

    def embed(
        self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None
    ) -> Tensor:
        """Label and augmentation join before the mapping."""
        emb = self.map_noise(noise_labels)
        if self.map_label is not None:
            assert class_labels is not None
            kept = self.dropped(class_labels, emb.shape[0])
            emb = emb + self.map_label(kept * math.sqrt(self.label_dim))
        if augment_labels is not None:
            assert self.map_augment is not None
            emb = emb + self.map_augment(augment_labels)
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))

    def predict(self, x: Tensor, emb: Tensor) -> Tensor:
        """Down and up; the decoder makes the picture."""
        return self.dec(self.enc(x, emb), emb)

    def _initialise(self) -> None:
        """Glorot, near zero for what ends a residual sum; biases zero."""
        for name, module in self.named_modules():
            if not isinstance(module, Conv | Linear):
                continue
            last = name.rpartition(".")[2]
            if last in ("conv1", "proj") or last.endswith("aux_conv"):
                gain = 1e-5
            else:
                gain = math.sqrt(0.2) if last == "qkv" else 1.0
            nn.init.xavier_uniform_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class DhariwalUNet(UNet):
    """ADM: adaptive group norm, one attention head per 64 channels; sources as of `SongUNet`."""

    architecture = "ADM"

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
