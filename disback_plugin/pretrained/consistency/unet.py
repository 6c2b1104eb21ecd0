"""OpenAI's U-Net as diffusers' UNet2DModel: the same function of the same weights."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.consistency.architecture import NUM_GROUPS, Architecture
from disback_plugin.pretrained.consistency.naming import Source, sources
from disback_plugin.tensors import misfit


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
