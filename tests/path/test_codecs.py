"""What each codec keeps of a node."""

import pytest
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.path import get_codec, register_codec


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return {"w": torch.randn(64, 64), "count": torch.tensor(5)}


@pytest.fixture
def node(teacher):
    torch.manual_seed(1)
    return {"w": teacher["w"] + 1e-5 * torch.randn(64, 64), "count": torch.tensor(9)}


def test_full_is_bit_exact(teacher, node):
    codec = get_codec("full")
    decoded = codec.decode(codec.encode(node, teacher), teacher)
    assert torch.equal(decoded["w"], node["w"])
    assert torch.equal(decoded["count"], node["count"])


def test_delta_halves_the_bytes_and_keeps_the_difference_to_one_part_in_two_hundred(teacher, node):
    codec = get_codec("delta")
    stored = codec.encode(node, teacher)
    assert stored["w"].dtype == torch.bfloat16
    assert torch.equal(stored["count"], node["count"])
    decoded = codec.decode(stored, teacher)
    error = (decoded["w"] - node["w"]).norm() / (node["w"] - teacher["w"]).norm()
    assert 0 < error < 1 / 200


def test_a_bfloat16_copy_would_have_lost_what_delta_keeps(teacher, node):
    # the changes are far below one bfloat16 unit of the weights
    lost = node["w"].bfloat16() == teacher["w"].bfloat16()
    assert lost.float().mean() > 0.95
    kept = get_codec("delta").encode(node, teacher)["w"] != 0
    assert kept.float().mean() > 0.95


def test_unknown_and_taken_names_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'delta'"):
        get_codec("deltas")
    with pytest.raises(ConfigError, match="already registered"):
        register_codec(get_codec("full"))
