"""Transformers of rectified flows as networks on latents: SD3, Flux, Qwen-Image, Wan."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from disback_plugin.diffusion import TextCondition, refuse_mask
from disback_plugin.errors import CheckpointError, ConfigError, DisBackError
from disback_plugin.reading import shown

PACKED_SIDE = 128  # latents of the 1024 pixels that the pipelines make unless told otherwise
FLUX_GUIDANCE = 3.5  # as FluxPipeline asks one that was distilled from a guided model


class FlowNetwork(nn.Module):
    """A diffusers transformer as a network(x_t, timestep, cond), cond a TextCondition."""

    needs_pooled: ClassVar[bool] = True
    takes_mask: ClassVar[bool] = False
    others: ClassVar[Mapping[str, Any]] = {}  # settings that need more than text -> without them

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @classmethod
    def default_size(cls, config: Any) -> tuple[int, ...] | None:
        """A sample's extent (H, W) or (F, H, W), as far as the config says."""
        return None

    @classmethod
    def patch(cls, config: Any) -> tuple[int, ...]:
        """The latents in one token, (h, w) or (f, h, w): a sample is whole patches."""
        raise NotImplementedError

    @classmethod
    def channels(cls, config: Any) -> int:
        """Of a latent."""
        return config.in_channels

    @classmethod
    def answers(cls, config: Any) -> int | None:
        """How many channels it makes where it takes `in_channels`; None: as many."""
        return config.out_channels

    def forward(self, x: Tensor, timestep: Tensor, cond: TextCondition | None) -> Tensor:
        """x (B, C, ..., H, W) latents, timestep (B,), cond of B prompts -> v, of x's shape.

        Raises DisBackError where encoded prompts are missing or another model's.
        """
        if not isinstance(cond, TextCondition):
            seen = "none" if cond is None else f"a {type(cond).__name__}"
            raise DisBackError(f"this model needs encoded prompts, not {seen}: a TextCondition")
        if self.needs_pooled != (cond.pooled is not None):
            raise DisBackError("the prompts were encoded for another model: use its own encoder")
        if not self.takes_mask:
            refuse_mask(cond)
        x = x.to(self.transformer.dtype)  # of which some, as Wan's, keep parts in float32
        return self.ask(x, timestep, cond.to(x.dtype))

    def ask(self, x: Tensor, timestep: Tensor, cond: TextCondition) -> Tensor:
        """The transformer's own call."""
        raise NotImplementedError


class SD3Network(FlowNetwork):
    """`SD3Transformer2DModel`: prompts as hidden states and pooled embeddings."""

    @classmethod
    def default_size(cls, config: Any) -> tuple[int, ...] | None:
        return config.sample_size, config.sample_size

    @classmethod
    def patch(cls, config: Any) -> tuple[int, ...]:
        return config.patch_size, config.patch_size

    def ask(self, x: Tensor, timestep: Tensor, cond: TextCondition) -> Tensor:
        text = {"encoder_hidden_states": cond.hidden, "pooled_projections": cond.pooled}
        return self.transformer(hidden_states=x, timestep=timestep, **text).sample


def packed(latents: Tensor) -> Tensor:
    """Latents (B, C, H, W) as tokens (B, H/2 x W/2, 4 C), one a patch of 2x2, row by row."""
    height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
    patches = latents.unflatten(3, (width, 2)).unflatten(2, (height, 2)).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(len(latents), height * width, -1)


class PackedNetwork(FlowNetwork):
    """One that takes 2x2 patches of latents as tokens."""

    @classmethod
    def default_size(cls, config: Any) -> tuple[int, ...] | None:
        return PACKED_SIDE, PACKED_SIDE

    @classmethod
    def patch(cls, config: Any) -> tuple[int, ...]:
        return 2, 2

    @classmethod
    def channels(cls, config: Any) -> int:
        return config.in_channels // 4

    def ask(self, x: Tensor, timestep: Tensor, cond: TextCondition) -> Tensor:
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        # they multiply by 1000 themselves
        answer = self.ask_packed(packed(x), timestep / 1000, cond, (height, width))
        patches = answer.reshape(len(x), height, width, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(x.shape)

    def ask_packed(
        self, tokens: Tensor, t: Tensor, cond: TextCondition, size: tuple[int, int]
    ) -> Tensor:
        """The transformer's own call: tokens (B, rows x columns, 4 C), t (B,) in [0, 1]."""
        raise NotImplementedError


class FluxNetwork(PackedNetwork):
    """`FluxTransformer2DModel`: each token is told its row and column.

    embedded_guidance: what one with guidance embeddings (FLUX.1-dev) is told of the guided model
    that it was distilled from; None for one without (FLUX.1-schnell).
    """

    def __init__(self, transformer: Any, embedded_guidance: float | None = None) -> None:
        super().__init__(transformer)
        self.embedded_guidance = embedded_guidance

    def ask_packed(
        self, tokens: Tensor, t: Tensor, cond: TextCondition, size: tuple[int, int]
    ) -> Tensor:
        extents = (torch.arange(extent, device=tokens.device) for extent in (1, *size))
        places = torch.cartesian_prod(*extents)
        told = self.embedded_guidance
        return self.transformer(
            hidden_states=tokens,
            timestep=t,
            encoder_hidden_states=cond.hidden,
            pooled_projections=cond.pooled,
            img_ids=places.to(tokens),
            txt_ids=tokens.new_zeros(cond.hidden.shape[1], 3),
            guidance=None if told is None else t.new_full(t.shape, told),
        ).sample


class QwenImageNetwork(PackedNetwork):
    """`QwenImageTransformer2DModel`, of text alone, which has a mask where lengths differ."""

    needs_pooled = False
    takes_mask = True
    others: ClassVar = {
        **{"guidance_embeds": False, "zero_cond_t": False},
        **{"use_additional_t_cond": False, "use_layer3d_rope": False},
    }

    @classmethod
    def answers(cls, config: Any) -> int | None:
        return config.patch_size**2 * config.out_channels

    def ask_packed(
        self, tokens: Tensor, t: Tensor, cond: TextCondition, size: tuple[int, int]
    ) -> Tensor:
        return self.transformer(
            hidden_states=tokens,
            timestep=t,
            encoder_hidden_states=cond.hidden,
            encoder_hidden_states_mask=cond.mask,
            img_shapes=[[(1, *size)]] * len(tokens),
        ).sample


class WanNetwork(FlowNetwork):
    """`WanTransformer3DModel` from text to video: latents (B, C, F, H, W)."""

    needs_pooled = False
    others: ClassVar = {"image_dim": None, "added_kv_proj_dim": None}

    @classmethod
    def patch(cls, config: Any) -> tuple[int, ...]:
        return tuple(config.patch_size)

    def ask(self, x: Tensor, timestep: Tensor, cond: TextCondition) -> Tensor:
        return self.transformer(
            hidden_states=x, timestep=timestep, encoder_hidden_states=cond.hidden
        ).sample


FLOWS: dict[str, type[FlowNetwork]] = {
    "SD3Transformer2DModel": SD3Network,
    "FluxTransformer2DModel": FluxNetwork,
    "QwenImageTransformer2DModel": QwenImageNetwork,
    "WanTransformer3DModel": WanNetwork,
}


def make_flow_network(
    transformer: Any, location: str, embedded_guidance: float | None = None
) -> FlowNetwork:
    """The network around a transformer; CheckpointError for one that needs more than text.

    Raises ConfigError for an embedded guidance that it does not take.
    """
    kind, config = FLOWS[type(transformer).__name__], transformer.config
    for name, without in kind.others.items():
        if getattr(config, name) != without:
            raise CheckpointError(
                f"{location}: a {type(transformer).__name__} with {name}="
                f"{shown(getattr(config, name))} is not supported, only {name}={shown(without)}"
            )
    if kind.answers(config) not in (None, config.in_channels):
        raise CheckpointError(
            f"{location}: the transformer takes {config.in_channels} channels and makes "
            f"{kind.answers(config)}: it needs an image besides the text"
        )
    if kind is FluxNetwork and config.guidance_embeds:
        told = FLUX_GUIDANCE if embedded_guidance is None else embedded_guidance
        if not 0 <= told < math.inf:
            raise ConfigError(f"option 'embedded_guidance' must be a number from 0 up, not {told}")
        return FluxNetwork(transformer, told)
    if embedded_guidance is not None:
        raise ConfigError(
            f"option 'embedded_guidance' is for a Flux with guidance_embeds, {location} has none"
        )
    return kind(transformer)


def flow_data_shape(network: FlowNetwork, size: Any, location: str) -> tuple[int, ...]:
    """(C, H, W), of Wan (C, F, H, W): by the option `sample_size` where the config is silent.

    Raises ConfigError for an option that is no such extent, in whole patches.
    """
    kind, config = type(network), network.transformer.config
    found, patch = kind.default_size(config) if size is None else tuple(size), kind.patch(config)
    if found is None:
        raise CheckpointError(
            f"{location}: the config does not say how large a sample is: give the option "
            "sample_size, of latents: [frames, height, width]"
        )
    fits = len(found) == len(patch) and all(
        type(extent) is int and extent > 0 and extent % side == 0
        for extent, side in zip(found, patch, strict=True)
    )
    if not fits:
        where = f"{location}: " if size is None else "option "
        names = ["frames", "height", "width"][-len(patch) :]
        raise (CheckpointError if size is None else ConfigError)(
            f"{where}sample_size must be [{', '.join(names)}] of latents, positive whole multiples "
            f"of {list(patch)}, not {shown(list(found))}"
        )
    return kind.channels(config), *found
