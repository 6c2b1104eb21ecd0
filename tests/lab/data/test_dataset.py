"""A data set hands out batches by its generator and refuses data that cannot be right."""

import pytest
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import DataSet, mirror_half


def numbers(num: int = 50) -> DataSet:
    samples = torch.arange(num, dtype=torch.float32)[:, None]
    return DataSet(name="numbers", samples=samples, labels=torch.arange(num), num_classes=num)


def test_a_batch_depends_on_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, _ = numbers().batch(32, torch.Generator().manual_seed(0))
    again, _ = numbers().batch(32, torch.Generator().manual_seed(0))
    other, _ = numbers().batch(32, torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_labels_stay_with_their_samples() -> None:
    samples, labels = numbers().batch(200, torch.Generator().manual_seed(0))
    assert torch.equal(samples[:, 0].long(), labels)
    assert len(labels.unique()) > 40


def test_unlabelled_data_gives_batches_without_labels() -> None:
    data = DataSet(name="plain", samples=torch.ones(3, 2), labels=None, num_classes=0)
    samples, labels = data.batch(2, torch.Generator().manual_seed(0))
    assert samples.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert labels is None
    assert data.to("cpu").labels is None


def test_its_shape_and_length_are_those_of_the_samples() -> None:
    samples = torch.tensor([[[-1.0, 1.0]], [[3.0, 5.0]]])
    data = DataSet(name="few", samples=samples, labels=None, num_classes=0)
    assert (len(data), data.data_shape) == (2, (1, 2))


@pytest.mark.parametrize(
    ("samples", "labels", "num_classes", "message"),
    [
        (torch.ones(0, 2), None, 0, "'bad' has no samples"),
        (torch.ones(3, 2), None, 4, "num_classes=4"),
        (torch.ones(3, 2), torch.arange(3), 0, "num_classes=0"),
        (torch.ones(3, 2), torch.arange(2), 2, r"3 samples but labels of shape \(2,\)"),
    ],
)
def test_data_that_cannot_be_right_is_refused(
    samples: torch.Tensor, labels: torch.Tensor | None, num_classes: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        DataSet(name="bad", samples=samples, labels=labels, num_classes=num_classes)


def test_half_of_the_images_are_mirrored_and_the_others_left_as_they_are() -> None:
    images = torch.arange(1000 * 2 * 3 * 4.0).reshape(1000, 2, 3, 4)
    state = torch.get_rng_state()
    seen = mirror_half(images, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)
    mirrored = (seen == images.flip(3)).flatten(1).all(1)
    kept = (seen == images).flatten(1).all(1)
    assert torch.equal(mirrored, ~kept)
    assert 450 < int(mirrored.sum()) < 550
    assert torch.equal(mirror_half(images, torch.Generator().manual_seed(0)), seen)
