"""Stacked networks answer, and are differentiated, as each of them alone."""

import pytest
import torch
from torch import nn

from disback_plugin.lab.compare.stack import Stack
from disback_plugin.lab.networks.mlp import MLPGenerator
from disback_plugin.lab.networks.unets import SmallUNet
from disback_plugin.lab.noise import seeded

NUM_LANES, BATCH = 3, 2


def _networks(kind: str) -> list[nn.Module]:
    made: list[nn.Module] = []
    for seed in range(NUM_LANES):
        with seeded(seed):
            if kind == "convolutions":
                made.append(SmallUNet((3, 4, 4), channels=8, num_classes=2))
            else:
                made.append(MLPGenerator(2, (3,), hidden=8))
    return made


@pytest.mark.parametrize("kind", ["convolutions", "linear"])
def test_a_lane_is_its_network(kind: str) -> None:
    networks = _networks(kind)
    stack, draws = Stack(networks, trainable=True), torch.Generator().manual_seed(0)
    if kind == "convolutions":
        x = torch.randn(NUM_LANES, BATCH, 3, 4, 4, generator=draws)
        inputs = (x, torch.rand(NUM_LANES, BATCH, generator=draws), torch.tensor([[0, 1]] * 3))
    else:
        inputs = (torch.randn(NUM_LANES, BATCH, 2, generator=draws),)
    found = stack(*inputs)
    grads = torch.autograd.grad(found.square().sum(), list(stack.params.values()))
    for lane, network in enumerate(networks):
        due = network(*(value[lane] for value in inputs))
        due.square().sum().backward()
        torch.testing.assert_close(found[lane], due)
        for (name, own), grad in zip(network.named_parameters(), grads, strict=True):
            assert own.grad is not None
            torch.testing.assert_close(grad[lane], own.grad, msg=name)
