"""DDPM++ called as the trainer calls networks: ids become rows, c goes in as it is."""

import pytest
import torch
from torch.nn.functional import one_hot

from disback_plugin.errors import ConfigError, DisBackError
from disback_plugin.lab.networks.unets import LabelledSongUNet


def network(num_classes: int) -> LabelledSongUNet:
    torch.manual_seed(0)
    return LabelledSongUNet((3, 8, 8), 8, (1, 2), 1, (4,), num_classes=num_classes)


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
C = torch.tensor([999.0, 0.5])


def test_ids_are_the_rows_of_the_unet() -> None:
    labelled, ids = network(5), torch.tensor([4, 1])
    assert torch.equal(labelled(X, C, ids), labelled.unet(X, C, one_hot(ids, 5).float()))
    assert torch.equal(labelled(X, C), labelled.unet(X, C, torch.zeros(2, 5)))  # no class
    assert not torch.equal(labelled(X, C, ids), labelled(X, C))


def test_without_classes_labels_are_refused() -> None:
    plain = network(0)
    assert torch.equal(plain(X, C), plain.unet(X, C, None))
    with pytest.raises(DisBackError, match="takes no class labels"):
        plain(X, C, torch.tensor([0, 1]))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"square images \(C, N, N\), not \(3, 8, 6\)"):
        LabelledSongUNet((3, 8, 6), 8, (1,), 1)
