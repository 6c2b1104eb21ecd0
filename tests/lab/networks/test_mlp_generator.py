"""The MLP student: latents in, samples in the data's shape out."""

import pytest
import torch

from disback_plugin.errors import ConfigError, DisBackError
from disback_plugin.lab.networks import MLPGenerator


def test_one_layer_is_an_affine_map_into_the_datas_shape() -> None:
    generator = MLPGenerator(3, (1, 2, 2), num_layers=1)
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    (layer,) = generator.layers
    torch.testing.assert_close(generator(z), (z @ layer.weight.T + layer.bias).reshape(5, 1, 2, 2))


def test_num_layers_counts_the_linear_maps() -> None:
    widths = [
        (layer.in_features, layer.out_features)
        for layer in MLPGenerator(3, (2,), hidden=16, num_layers=4).layers
        if isinstance(layer, torch.nn.Linear)
    ]
    assert widths == [(3, 16), (16, 16), (16, 16), (16, 2)]


def test_the_weights_follow_the_seed() -> None:
    z = torch.ones(1, 2)
    outs = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outs.append(MLPGenerator(2, (2,))(z))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_labels_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(DisBackError, match="unconditional"):
        MLPGenerator(2, (2,))(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ConfigError, match=r"at least 1, not 0, \(2,\) and 3"):
        MLPGenerator(0, (2,))
