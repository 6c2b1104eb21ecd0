"""OpenAI's U-Net as diffusers' UNet2DModel: the same function of the same weights."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.consistency.architecture import NUM_GROUPS, Architecture
from disback_plugin.tensors import misfit

RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


class Source(NamedTuple):
    """A module of the checkpoint; `third` is the part of a fused query-key-value, else None."""

    module: str
    third: int | None = None


def import_diffusers() -> ModuleType:
    """diffusers, imported where it is first needed: it takes seconds; ConfigError without it."""
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"consistency models need the package {error.name!r}: pip install diffusers"
        ) from error
    return diffusers


def build_unet(tensors: Mapping[str, Tensor], architecture: Architecture) -> nn.Module:
    """A float32 UNet2DModel with copies of the checkpoint's tensors.

    Each tensor is used exactly once and each parameter filled; raises CheckpointError naming
    the tensor that is missing, left over or of another shape.
    """
    with torch.device("meta"):
        unet = import_diffusers().UNet2DModel(**unet_settings(architecture))
    targets = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    origin = _origins(sources(architecture), targets)
    due = {origin[name][0]: _source_shape(*origin[name], targets[name]) for name in targets}
    if problem := misfit(due, tensors):
        raise CheckpointError(f"the tensors do not make one model: {problem}")
    state = {}
    for target, (name, third) in origin.items():
        tensor = tensors[name] if third is None else tensors[name].chunk(3)[third]
        state[target] = tensor.reshape(targets[target]).to(torch.float32, copy=True)
    unet.load_state_dict(state, strict=True, assign=True)
    return unet.eval()


def unet_settings(architecture: Architecture) -> dict[str, Any]:
    """The arguments of UNet2DModel, those of diffusers' own consistency-model repositories."""
    kind = "Resnet{}sampleBlock2D" if architecture.resampling == "resnet" else "{}Block2D"
    down = [
        "AttnDownBlock2D" if attends else kind.format("Down") for attends in architecture.attention
    ]
    up = ["AttnUpBlock2D" if attends else kind.format("Up") for attends in architecture.attention]
    return {
        "sample_size": architecture.resolution,
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "layers_per_block": architecture.num_res_blocks,
        "num_class_embeds": architecture.num_classes or None,
        "block_out_channels": list(architecture.channels),
        "attention_head_dim": architecture.num_head_channels,
        "down_block_types": down,
        "up_block_types": up[::-1],
        "resnet_time_scale_shift": "scale_shift" if architecture.scale_shift else "default",
        "norm_num_groups": NUM_GROUPS,
        "attn_norm_num_groups": NUM_GROUPS,
        "norm_eps": 1e-5,
        "downsample_type": architecture.resampling,
        "upsample_type": architecture.resampling,
    }


def _origins(
    modules: Mapping[str, Source], targets: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, int | None]]:
    """Parameter of UNet2DModel -> (tensor of the checkpoint, its third or None)."""
    found = {}
    for target in targets:
        module, leaf = target.rsplit(".", 1)
        found[target] = (f"{modules[module].module}.{leaf}", modules[module].third)
    return found


def _source_shape(name: str, third: int | None, target: tuple[int, ...]) -> tuple[int, ...]:
    """What the checkpoint's tensor must be: its attention projects by 1x1 convolutions."""
    if name.endswith((".qkv.weight", ".proj_out.weight")):
        target = (*target, 1, 1)
    return target if third is None else (3 * target[0], *target[1:])


def sources(architecture: Architecture) -> dict[str, Source]:
    """Module of UNet2DModel -> module of the checkpoint.

    A residual block's `conv_shortcut` is listed for every block, though only some have one.
    """
    found = {
        "time_embedding.linear_1": Source("time_embed.0"),
        "time_embedding.linear_2": Source("time_embed.2"),
        "class_embedding": Source("label_emb"),
        "conv_in": Source("input_blocks.0.0"),
        "conv_norm_out": Source("out.0"),
        "conv_out": Source("out.2"),
        **_residual("mid_block.resnets.0", "middle_block.0"),
        **_attention("mid_block.attentions.0", "middle_block.1"),
        **_residual("mid_block.resnets.1", "middle_block.2"),
    }
    num_levels, num_blocks = len(architecture.channels), architecture.num_res_blocks
    per_level = num_blocks + 1
    for level in range(num_levels):
        start, target = 1 + level * per_level, f"down_blocks.{level}"
        found |= _blocks(target, "input_blocks", start, num_blocks, architecture.attention[level])
        if level < num_levels - 1:
            found |= _resampler(
                f"{target}.downsamplers.0",
                f"input_blocks.{start + num_blocks}.0",
                "op" if architecture.resampling == "conv" else None,
            )
        attends = architecture.attention[num_levels - 1 - level]  # upwards: the coarsest first
        start, target = level * per_level, f"up_blocks.{level}"
        found |= _blocks(target, "output_blocks", start, per_level, attends)
        if level < num_levels - 1:
            found |= _resampler(
                f"{target}.upsamplers.0",
                f"output_blocks.{start + num_blocks}.{2 if attends else 1}",
                "conv" if architecture.resampling == "conv" else None,
            )
    return found


def _blocks(target: str, group: str, start: int, num: int, attends: bool) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for index in range(num):
        block = f"{group}.{start + index}"
        found |= _residual(f"{target}.resnets.{index}", f"{block}.0")
        if attends:
            found |= _attention(f"{target}.attentions.{index}", f"{block}.1")
    return found


def _residual(target: str, source: str) -> dict[str, Source]:
    return {f"{target}.{mine}": Source(f"{source}.{theirs}") for mine, theirs in RESIDUAL.items()}


def _attention(target: str, source: str) -> dict[str, Source]:
    """The fused projection's rows are (query, key, value), each (head, channel)."""
    return {
        f"{target}.group_norm": Source(f"{source}.norm"),
        **{
            f"{target}.{mine}": Source(f"{source}.qkv", third)
            for third, mine in enumerate(("to_q", "to_k", "to_v"))
        },
        f"{target}.to_out.0": Source(f"{source}.proj_out"),
    }


def _resampler(target: str, source: str, convolution: str | None) -> dict[str, Source]:
    if convolution is None:
        return _residual(target, source)
    return {f"{target}.conv": Source(f"{source}.{convolution}")}
