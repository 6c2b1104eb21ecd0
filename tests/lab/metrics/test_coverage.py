"""Mode and class coverage on sets whose coverage is known."""

import pytest
import torch

from disback_plugin.errors import DisBackError
from disback_plugin.lab.metrics import class_coverage, mode_coverage

MEANS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def at(counts: list[int], offset: float = 0.0) -> torch.Tensor:
    """`counts[i]` samples at component i, moved along x."""
    return MEANS.repeat_interleave(torch.tensor(counts), dim=0) + torch.tensor([offset, 0.0])


def test_every_mode_is_covered_by_even_samples() -> None:
    assert mode_coverage(at([25, 25, 25, 25]), MEANS, 0.5) == 1.0


@pytest.mark.parametrize(("lone", "expected"), [(5, 1.0), (4, 0.75), (0, 0.75)])
def test_a_mode_needs_a_fifth_of_its_due(lone: int, expected: float) -> None:
    """A fifth of an even share of 100 samples over 4 modes is 5 samples."""
    assert mode_coverage(at([32, 32, 36 - lone, lone]), MEANS, 0.5) == expected


def test_a_rare_component_is_due_less() -> None:
    samples, weights = at([95, 2, 2, 1]), torch.tensor([0.94, 0.02, 0.02, 0.02])
    assert mode_coverage(samples, MEANS, 0.5) == 0.25
    assert mode_coverage(samples, MEANS, 0.5, weights) == 1.0


@pytest.mark.parametrize(("offset", "expected"), [(1.49, 1.0), (1.51, 0.0)])
def test_only_samples_within_three_std_count(offset: float, expected: float) -> None:
    assert mode_coverage(at([10, 10, 10, 10], offset), MEANS, 0.5) == expected


def test_each_component_has_its_own_std() -> None:
    samples, std = at([10, 10, 10, 10], offset=2.0), torch.tensor([1.0, 0.5, 1.0, 0.5])
    assert mode_coverage(samples, MEANS, std) == 0.5


def test_a_sample_counts_for_its_nearest_component_alone() -> None:
    near = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert mode_coverage(torch.zeros(10, 2), near, 1.0) == 0.5


def test_diverged_samples_cover_nothing() -> None:
    samples = at([25, 25, 25, 25])
    samples[0, 0] = torch.nan
    assert mode_coverage(samples, MEANS, 0.5) == 0.0


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([10] * 10, 1.0), ([100], 0.1), ([50, 50], 0.2), ([0, 0, 20, 20, 20, 20], 0.4)],
)
def test_class_coverage_is_the_effective_share_of_classes(counts, expected: float) -> None:
    classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    assert class_coverage(classes, 10) == pytest.approx(expected, abs=1e-12)


def test_class_coverage_weighs_uneven_shares() -> None:
    """Entropy of (3/4, 1/4) is ln 4 - (3/4) ln 3, so that the effective number is 4 / 3^(3/4)."""
    got = class_coverage(torch.tensor([0, 0, 0, 1]), 2)
    assert got == pytest.approx(4 / 3**0.75 / 2, abs=1e-12)


def test_a_class_beyond_the_number_of_classes_is_refused() -> None:
    with pytest.raises(DisBackError, match="class 10 seen where num_classes is 10"):
        class_coverage(torch.tensor([0, 10]), 10)
