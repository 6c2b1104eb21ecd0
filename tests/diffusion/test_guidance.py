"""Guidance is linear in the network's two answers."""

import pytest
import torch
from torch import Tensor

from disback_plugin.diffusion import GuidedNetwork, TextCondition
from disback_plugin.errors import ConfigError


def test_guidance_leads_linearly_away_from_the_negative_prompt() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: Tensor, c: Tensor, cond: TextCondition) -> Tensor:
            return x + c[:, None] + cond.hidden.sum((1, 2))[:, None]

    negative = TextCondition(torch.full((1, 2, 1), 0.5))
    network = GuidedNetwork(Sum(), negative, 3.0)
    x, c = torch.zeros(2, 4), torch.tensor([10.0, 20.0])
    cond = TextCondition(torch.tensor([2.0, 4.0])[:, None, None].expand(2, 2, 1))
    # away: 11 and 21; towards: 14 and 28
    assert network(x, c, cond)[:, 0].tolist() == [11 + 3 * 3, 21 + 3 * 7]
    with pytest.raises(ConfigError, match="guidance_scale must be at least 1"):
        GuidedNetwork(Sum(), negative, 0.5)
