"""Augmentation changes half of the images, by its generator alone."""

import torch

from disback_plugin.lab.data import mirror_half


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
