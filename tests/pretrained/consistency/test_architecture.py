"""The architecture is told from names and shapes; what does not fit is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from disback_plugin.errors import CheckpointError, ConfigError, DisBackError
from disback_plugin.lab.smoke.openai import Config, shapes
from disback_plugin.pretrained.consistency import Architecture, build_unet, infer_architecture
from tests.pretrained.consistency.checkpoints import CASES

# scripts/launch.sh of openai/consistency_models
IMAGENET_64 = Config(
    channels=192, mult=(1, 2, 3, 4), num_res_blocks=3, attention=(2, 4, 8), num_classes=1000
)
LSUN_256 = Config(
    channels=256,
    mult=(1, 1, 2, 2, 4, 4),
    num_res_blocks=2,
    attention=(8, 16, 32),
    scale_shift=False,
)


def empty(config: Config) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes(config).items()}


@pytest.mark.parametrize("name", CASES)
def test_every_setting_that_shapes_tell_is_found(name: str) -> None:
    config = CASES[name]
    assert infer_architecture(empty(config), config.num_head_channels, config.size) == Architecture(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        channels=tuple(mult * config.channels for mult in config.mult),
        num_res_blocks=config.num_res_blocks,
        attention=tuple(2**level in config.attention for level in range(len(config.mult))),
        num_classes=config.num_classes or 0,
        scale_shift=config.scale_shift,
        resampling="resnet" if config.resblock_updown else "conv",
        num_head_channels=config.num_head_channels,
        resolution=config.size,
    )


@pytest.mark.parametrize(
    ("config", "resolution", "num_parameters"),
    [(IMAGENET_64, 64, 295_899_267), (LSUN_256, 256, 526_304_771)],
)
def test_released_models_need_no_option(
    config: Config, resolution: int, num_parameters: int
) -> None:
    tensors = empty(config)
    found = infer_architecture(tensors)
    assert (found.resolution, found.num_head_channels) == (resolution, 64)
    unet = build_unet(tensors, found)
    assert sum(weight.numel() for weight in unet.parameters()) == num_parameters


def test_one_level_has_nothing_to_resample() -> None:
    config = Config(channels=32, mult=(1,), num_res_blocks=2, attention=(1,))
    found = infer_architecture(empty(config), 16)
    assert (found.channels, found.num_res_blocks, found.resolution) == ((32,), 2, 32)
    build_unet(empty(config), found)


def drop(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.pop(name)


def reshape(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: torch.empty(shape, device="meta")})


def drop_block(prefix: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: [
        tensors.pop(name) for name in list(tensors) if name.startswith(f"{prefix}.")
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("out.2.weight"), "no tensor 'out.2.weight', which every such model has"),
        (
            drop("input_blocks.2.0.in_layers.0.bias"),
            r"do not make one model: missing \['input_blocks.2.0.in_layers.0.bias'\]",
        ),
        (
            reshape("middle_block.2.out_layers.3.bias", 95),
            r"'middle_block.2.out_layers.3.bias' has shape \(95,\), expected \(96,\)",
        ),
        (
            reshape("output_blocks.0.1.qkv.weight", 192, 96, 1, 1),
            r"'output_blocks.0.1.qkv.weight' has shape .*, expected \(288, 96, 1, 1\)",
        ),
        (
            reshape("input_blocks.1.1.qkv.bias", 3),
            r"unexpected \['input_blocks.1.1.qkv.bias'\]",
        ),
        (reshape("input_blocks.9.0.op.weight", 3), "no tensor of input_blocks.6, though later"),
        (drop_block("input_blocks.2"), "no tensor of input_blocks.2, though later ones"),
        (drop_block("output_blocks"), "no tensor of output_blocks"),
        (
            drop_block("output_blocks.3.2"),
            r"upsampling in output_blocks.1 \(resnet\) of 6 output blocks",
        ),
        (
            reshape("input_blocks.1.0.in_layers.2.weight", 40, 32, 3, 3),
            "'input_blocks.1.0.in_layers.2.weight' makes 40 channels, no multiple of the 32",
        ),
        (
            reshape("middle_block.1.qkv.weight", 288, 96, 1),
            "'middle_block.1.qkv.weight' .*, as in guided-diffusion",
        ),
        (reshape("label_emb.weight", 5), r"'label_emb.weight' has shape \(5,\), not 2 dimensions"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    damage: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    tensors = empty(CASES["imagenet"])
    damage(tensors)
    with pytest.raises(CheckpointError, match=message):
        build_unet(tensors, infer_architecture(tensors, 16))


@pytest.mark.parametrize(
    ("config", "heads", "resolution", "message"),
    [
        (CASES["imagenet"], None, None, "over 96 channels, .* heads of 64; give num_head_channels"),
        (CASES["imagenet"], 0, None, "over 64 channels, .* heads of 0;"),
        (CASES["imagenet"], 16, 10, "resolution 10 cannot be halved 2 times.*a multiple of 4"),
        (replace(CASES["lsun"], attention=()), 16, None, "no level has attention.*give resolution"),
    ],
)
def test_options_are_asked_for_where_they_are_needed(
    config: Config, heads: int | None, resolution: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        infer_architecture(empty(config), heads, resolution)


def test_each_single_tensor_is_needed() -> None:
    config = Config(channels=32, mult=(1, 1), attention=(1,), num_classes=2)
    whole = empty(config)
    for name in whole:
        if name == "label_emb.weight":
            continue  # without it the model is an unconditional one
        tensors = {other: value for other, value in whole.items() if other != name}
        with pytest.raises(DisBackError):
            build_unet(tensors, infer_architecture(tensors, 16))
