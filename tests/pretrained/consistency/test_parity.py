"""The U-Net and both denoisers compute what OpenAI's code computes on the same weights."""

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from disback_plugin.diffusion import OneStepStudent
from disback_plugin.lab.smoke.openai import Config, fill, shapes
from disback_plugin.pretrained.consistency import build_unet, infer_architecture, make_denoiser
from tests.pretrained.consistency import upstream
from tests.pretrained.consistency.checkpoints import CASES, inputs
from tests.pretrained.consistency.record import FOLDER, sampled

TOLERANCE = 1e-5  # of the largest number


needs_checkout = pytest.mark.skipif(
    upstream.CHECKOUT is None, reason="no consistency_models in third_party/ or DISBACK_UPSTREAMS"
)


@pytest.fixture
def openai() -> Iterator[SimpleNamespace]:
    with upstream.imported() as modules:
        yield modules


@torch.no_grad()
def our_outputs(config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    x, sigma, labels = inputs(config)
    unet = build_unet(tensors, infer_architecture(tensors, config.num_head_channels, config.size))
    return {
        "network": unet(x, 250 * sigma.log(), labels).sample,
        "consistency": make_denoiser(unet, "consistency")(x, sigma, labels),
        "edm": make_denoiser(unet, "edm")(x, sigma, labels),
    }


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_the_recorded_ones(name: str) -> None:
    recorded = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    ours = our_outputs(CASES[name], fill(shapes(CASES[name])))
    assert sorted(recorded) == sorted(ours)
    for kind, values in recorded.items():
        assert_equal(sampled(ours[kind]), torch.tensor(values))


def test_every_number_of_the_checkpoint_is_used_exactly_once() -> None:
    for config in (CASES["imagenet"], CASES["convolutions"]):
        tensors = fill(shapes(config))
        found = infer_architecture(tensors, config.num_head_channels, config.size)
        unet = build_unet(tensors, found)
        mine = torch.cat([value.flatten() for value in unet.state_dict().values()])
        theirs = torch.cat([value.flatten() for value in tensors.values()])
        assert torch.equal(mine.sort().values, theirs.sort().values)


def test_recorded_outputs_would_show_another_order_of_heads() -> None:
    config = CASES["imagenet"]
    tensors = fill(shapes(config))
    for name in tensors:
        if name.endswith("qkv.weight"):  # (head, three, width) instead of (three, head, width)
            heads = tensors[name].shape[1] // config.num_head_channels
            grouped = tensors[name].unflatten(0, (heads, 3, config.num_head_channels))
            tensors[name] = grouped.transpose(0, 1).flatten(0, 2)
    recorded = json.loads((FOLDER / "imagenet.json").read_text(encoding="utf-8"))
    theirs = torch.tensor(recorded["network"])
    ours = sampled(our_outputs(config, tensors)["network"])
    assert (ours - theirs).abs().max() > 1e-2 * theirs.abs().max()


@needs_checkout
@pytest.mark.parametrize("name", CASES)
def test_our_checkpoints_have_openais_names_and_shapes(openai: SimpleNamespace, name: str) -> None:
    state = upstream.make_unet(openai, CASES[name]).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes(CASES[name])


@needs_checkout
@torch.no_grad()
def test_one_step_students_start_as_openais_one_step_sampler() -> None:
    config, z = CASES["imagenet"], torch.randn(2, 3, 8, 8)
    tensors, labels = fill(shapes(config)), inputs(config)[2]
    with upstream.imported() as modules:
        theirs = upstream.one_step_samples(modules, config, tensors, z, labels)
    unet = build_unet(tensors, infer_architecture(tensors, config.num_head_channels, config.size))
    student = OneStepStudent(make_denoiser(unet, "consistency"), 80.0)
    assert_equal(student(z, labels).clamp(-1, 1), theirs)


@needs_checkout
def test_outputs_equal_openais_code_on_other_weights() -> None:
    """Not those recorded: another seed, other numbers of blocks, larger inputs."""
    cases = [
        replace(config, num_res_blocks=3 - config.num_res_blocks, size=16)
        for config in CASES.values()
    ]
    weights = [fill(shapes(config), seed=7) for config in cases]
    with upstream.imported() as modules:  # its stand-ins would confuse diffusers
        theirs = [
            upstream.outputs(modules, config, tensors, inputs(config))
            for config, tensors in zip(cases, weights, strict=True)
        ]
    for config, tensors, expected in zip(cases, weights, theirs, strict=True):
        for kind, ours in our_outputs(config, tensors).items():
            assert_equal(ours, expected[kind])


@needs_checkout
def test_recorded_outputs_are_openais(openai: SimpleNamespace) -> None:
    for name, config in CASES.items():
        theirs = upstream.outputs(openai, config, fill(shapes(config)), inputs(config))
        recorded = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        for kind, values in recorded.items():
            assert_equal(torch.tensor(values), sampled(theirs[kind]))
