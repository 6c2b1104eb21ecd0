"""DDPM++ and NCSN++ (Song et al. 2021, Appendix H) in EDM's form and with its tensor names."""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.pretrained.edm.blocks import BlockStyle
from disback_plugin.pretrained.edm.layers import (
    Conv,
    ConvThenHalve,
    FourierEmbedding,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    Resample,
)
from disback_plugin.pretrained.edm.stages import Decoder, Encoder, Pyramid
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

EncoderType = Literal["standard", "skip", "residual"]
DecoderType = Literal["standard", "skip"]


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
        decoder_type: DecoderType = "standard",
        resample_filter: Filter = (1, 1),
    ) -> None:
        super().__init__(
            img_resolution, in_channels, out_channels, label_dim, augment_dim, label_dropout
        )
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
        self.enc = _Encoder(pyramid, style, in_channels, model_channels, encoder_type)
        self.dec = _Decoder(pyramid, style, self.enc.state_widths, out_channels, decoder_type)
        self._initialise()

    @property
    def architecture(self) -> str:
        """NCSN++ is told by its embedding."""
        return "NCSN++" if isinstance(self.map_noise, FourierEmbedding) else "DDPM++"

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


class _Encoder(Encoder):
    """With the input picture at each resolution beside the blocks, if the type says so."""

    def __init__(
        self,
        pyramid: Pyramid,
        style: BlockStyle,
        in_channels: int,
        first_width: int,
        encoder_type: EncoderType,
    ) -> None:
        self.encoder_type, self.side_width = encoder_type, in_channels
        super().__init__(pyramid, style, in_channels, first_width)

    def add_side(self, level: int, width: int, style: BlockStyle) -> None:
        """The side track keeps the picture's channels (`skip`) or becomes the state."""
        name = self.pyramid.name(level)
        if self.encoder_type == "skip":
            self[f"{name}_aux_down"] = Resample(style.taps, up=False)
            self[f"{name}_aux_skip"] = Conv(self.side_width, width, 1)
        elif self.encoder_type == "residual":
            self[f"{name}_aux_residual"] = ConvThenHalve(self.side_width, width, 3, style.taps)
            self.side_width = width

    def join(self, level: int, x: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """x and the side track of this level."""
        name = self.pyramid.name(level)
        if self.encoder_type == "skip":
            side = self[f"{name}_aux_down"](side)
            return x + self[f"{name}_aux_skip"](side), side
        if self.encoder_type == "residual":
            x = (x + self[f"{name}_aux_residual"](side)) / math.sqrt(2)
            return x, x
        return x, side


class _Decoder(Decoder):
    """The picture is made at the last level, or as a sum over all levels (`skip`)."""

    def __init__(
        self,
        pyramid: Pyramid,
        style: BlockStyle,
        state_widths: list[int],
        out_channels: int,
        decoder_type: DecoderType,
    ) -> None:
        self.out_channels, self.every_level = out_channels, decoder_type == "skip"
        super().__init__(pyramid, style, state_widths, every_attention=False)

    def add_output(self, level: int, width: int, style: BlockStyle) -> None:
        """The picture from `width` channels, and what doubles the picture so far."""
        name = self.pyramid.name(level)
        if level and not self.every_level:
            return
        if self.every_level and level < self.pyramid.last:
            self[f"{name}_aux_up"] = Resample(style.taps, up=True)
        self[f"{name}_aux_norm"] = GroupNorm(width, style.eps)
        self[f"{name}_aux_conv"] = Conv(width, self.out_channels, 3)

    def output(self, level: int, x: Tensor, picture: Tensor | None) -> Tensor | None:
        """This level's picture on the sum of those below."""
        name = self.pyramid.name(level)
        if level and not self.every_level:
            return None
        here = self[f"{name}_aux_conv"](F.silu(self[f"{name}_aux_norm"](x)))
        return here if picture is None else here + self[f"{name}_aux_up"](picture)
