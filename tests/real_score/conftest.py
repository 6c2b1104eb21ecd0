"""One input for the networks of these tests."""

import pytest
import torch


@pytest.fixture
def x():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
