"""The U-Net behind a checkpoint, from its tensors' names and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from disback_plugin.errors import CheckpointError, ConfigError

NUM_GROUPS = 32  # of every group norm
RELEASED_HEAD_CHANNELS = 64
RELEASED_FINEST_ATTENTION = 32  # the released models attend at resolutions 32, 16 and 8
UPSAMPLERS = {"in_layers.2.weight": "resnet", "conv.weight": "conv"}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One of OpenAI's U-Nets; tuples hold one entry a level, the finest first.

    num_classes: 0 without class conditioning. resampling: `resnet` or `conv`, what changes the
    resolution between levels. resolution: pixels a side of the images.
    """

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    num_res_blocks: int
    attention: tuple[bool, ...]
    num_classes: int
    scale_shift: bool
    resampling: str
    num_head_channels: int
    resolution: int


def infer_architecture(
    tensors: Mapping[str, Tensor],
    num_head_channels: int | None = None,
    resolution: int | None = None,
) -> Architecture:
    """Read the architecture off names and shapes.

    Head width and resolution leave no trace there: unless given they are the released models',
    64 channels a head and a finest attention at 32x32. Raises CheckpointError naming the tensor
    that does not fit, ConfigError where an option is needed.
    """
    num_res_blocks, num_levels, resampling = _layout(tensors)
    firsts = [f"input_blocks.{1 + level * (num_res_blocks + 1)}" for level in range(num_levels)]
    channels = tuple(_channels(tensors, f"{first}.0.in_layers.2.weight") for first in firsts)
    attention = tuple(f"{first}.1.qkv.weight" in tensors for first in firsts)
    embedding = _shape(tensors, f"{firsts[0]}.0.emb_layers.1.weight", 2)[0]
    heads = RELEASED_HEAD_CHANNELS if num_head_channels is None else num_head_channels
    attended = [f"{first}.1" for first, has in zip(firsts, attention, strict=True) if has]
    for module in (*attended, "middle_block.1"):
        _check_attention(tensors, module, heads)
    labels = "label_emb.weight"
    return Architecture(
        in_channels=_shape(tensors, "input_blocks.0.0.weight", 4)[1],
        out_channels=_shape(tensors, "out.2.weight", 4)[0],
        channels=channels,
        num_res_blocks=num_res_blocks,
        attention=attention,
        num_classes=_shape(tensors, labels, 2)[0] if labels in tensors else 0,
        scale_shift=embedding == 2 * channels[0],
        resampling=resampling,
        num_head_channels=heads,
        resolution=_resolution(attention, resolution),
    )


def _layout(tensors: Mapping[str, Tensor]) -> tuple[int, int, str]:
    """(residual blocks a level, levels, resampling): upsampling layers end each level but one.

    Going down, a residual block that halves the resolution has the names and shapes of any other.
    """
    _num_blocks(tensors, "input_blocks")
    num_blocks = _num_blocks(tensors, "output_blocks")
    kinds = {
        block: kind
        for block in range(num_blocks)
        for place in (1, 2)
        for leaf, kind in UPSAMPLERS.items()
        if f"output_blocks.{block}.{place}.{leaf}" in tensors
    }
    up = list(kinds)
    per_level = up[0] + 1 if up else num_blocks
    regular = list(range(per_level - 1, num_blocks - 1, per_level))
    if per_level < 2 or num_blocks % per_level or up != regular or len(set(kinds.values())) > 1:
        found = ", ".join(f"output_blocks.{block} ({kind})" for block, kind in kinds.items())
        raise CheckpointError(
            f"upsampling in {found or 'none'} of {num_blocks} output blocks: levels must have the "
            "same number of residual blocks, at least one, and one kind of upsampling"
        )
    return per_level - 1, num_blocks // per_level, kinds[up[0]] if up else "resnet"


def _num_blocks(tensors: Mapping[str, Tensor], group: str) -> int:
    seen = {name.split(".")[1] for name in tensors if name.startswith(f"{group}.")}
    for index in range(len(seen)):
        if str(index) not in seen:
            raise CheckpointError(
                f"no tensor of {group}.{index}, though later ones are there; resampling without "
                "weights is not supported"
            )
    if not seen:
        raise CheckpointError(f"no tensor of {group}")
    return len(seen)


def _shape(tensors: Mapping[str, Tensor], name: str, num_dims: int) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(f"no tensor {name!r}, which every such model has")
    shape = tuple(tensors[name].shape)
    if len(shape) != num_dims:
        raise CheckpointError(f"tensor {name!r} has shape {shape}, not {num_dims} dimensions")
    return shape


def _channels(tensors: Mapping[str, Tensor], name: str) -> int:
    """What a convolution puts out; its group norm divides it."""
    width = _shape(tensors, name, 4)[0]
    if width == 0 or width % NUM_GROUPS:
        raise CheckpointError(
            f"tensor {name!r} makes {width} channels, no multiple of the {NUM_GROUPS} groups"
        )
    return width


def _check_attention(tensors: Mapping[str, Tensor], module: str, num_head_channels: int) -> None:
    name = f"{module}.qkv.weight"
    if name in tensors and tensors[name].ndim == 3:
        raise CheckpointError(
            f"tensor {name!r} has shape {tuple(tensors[name].shape)}: a one-dimensional "
            "convolution, as in guided-diffusion, which orders heads in another way; such "
            "checkpoints are not supported"
        )
    width = _shape(tensors, name, 4)[1]
    if num_head_channels < 1 or width % num_head_channels:
        raise ConfigError(
            f"tensor {name!r} attends over {width} channels, which do not divide into heads of "
            f"{num_head_channels}; give num_head_channels, the width of a head"
        )


def _resolution(attention: tuple[bool, ...], given: int | None) -> int:
    if given is None:
        if True not in attention:
            raise ConfigError(
                "no level has attention, by which the released models' resolution is told; give "
                "resolution, the pixels a side"
            )
        return RELEASED_FINEST_ATTENTION * 2 ** attention.index(True)
    coarsening = 2 ** (len(attention) - 1)
    if given < 1 or given % coarsening:
        raise ConfigError(
            f"resolution {given} cannot be halved {len(attention) - 1} times, as the "
            f"{len(attention)} levels do: give a multiple of {coarsening}"
        )
    return given
