"""Image metrics without a network: closed forms, and what samples that are no numbers give."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from disback_plugin.lab.metrics import energy_distance
from disback_plugin.lab.problems.image_evaluators import ImagesEvaluator, SamplesEvaluator


def test_the_distance_of_shifted_images_is_the_shift_of_their_averages() -> None:
    data = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert ImagesEvaluator(data)(data) == {"fd_pixel": pytest.approx(0, abs=1e-9)}
    assert ImagesEvaluator(data)(data + 0.5)["fd_pixel"] == pytest.approx(16 * 0.25)


def test_large_images_are_averaged_to_sixteen_pixels_a_side() -> None:
    small = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert large.shape == (8, 3, 64, 64)
    other = torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    assert ImagesEvaluator(large)(other)["fd_pixel"] == pytest.approx(
        ImagesEvaluator(small)(other)["fd_pixel"]
    )


def test_a_diverged_student_is_infinitely_far() -> None:
    broken = torch.full((4, 1, 4, 4), math.nan)
    assert ImagesEvaluator(torch.randn(8, 1, 4, 4))(broken) == {"fd_pixel": math.inf}


def test_samples_are_compared_with_those_in_the_file(tmp_path: Path) -> None:
    theirs, ours = torch.randn(6, 4, 2, 2), torch.randn(5, 4, 2, 2)
    evaluator = SamplesEvaluator(tmp_path / "samples.safetensors")
    save_file({"samples": theirs}, tmp_path / "samples.safetensors")
    assert evaluator(ours) == {"energy_distance": energy_distance(ours, theirs)}
    assert evaluator(theirs) == {"energy_distance": 0.0}
