"""KID, inception score, precision and recall against their libraries and their definitions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from disback_plugin.errors import DisBackError
from disback_plugin.lab.metrics import inception_score, kernel_distance, precision_recall


def rows(num: int, width: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, width, generator=generator).abs() + shift


@pytest.fixture
def generated() -> Tensor:
    return rows(90, 12, seed=0, shift=0.2)


@pytest.fixture
def real() -> Tensor:
    return rows(120, 12, seed=1)


def test_kid_is_clean_fids_on_the_same_subsets(generated: Tensor, real: Tensor) -> None:
    clean = pytest.importorskip("cleanfid.fid")
    state = np.random.get_state()
    np.random.seed(5)
    expected = clean.kernel_distance(
        generated.double().numpy(), real.double().numpy(), num_subsets=7, max_subset_size=40
    )
    np.random.set_state(state)
    found = kernel_distance(generated, real, num_subsets=7, subset_size=40, seed=5)
    assert found == pytest.approx(expected, rel=1e-10)


def test_kid_of_whole_sets_is_the_unbiased_mmd(generated: Tensor) -> None:
    real = rows(90, 12, seed=2)
    x, y = real.double(), generated.double()

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 12 + 1) ** 3)

    num = len(x)
    pairs = [(i, j) for i in range(num) for j in range(num) if i != j]
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs) / (num * (num - 1))
    between = float(((x @ y.T / 12 + 1) ** 3).mean())
    found = kernel_distance(generated, real, num_subsets=1)
    assert found == pytest.approx(within - 2 * between, rel=1e-9)


def test_kid_refuses_features_of_two_networks(generated: Tensor) -> None:
    with pytest.raises(DisBackError, match="12 and 11 numbers"):
        kernel_distance(generated, rows(9, 11, seed=0))


def test_the_inception_score_is_torch_fidelitys() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_isc")
    logits = rows(100, 10, seed=3) * 4
    expected = metric.isc_features_to_metric(logits, splits=4, shuffle=False)
    found = inception_score(logits.softmax(1).split(25))
    assert found == pytest.approx(expected["inception_score_mean"], rel=1e-6)


def test_the_inception_score_of_certain_and_even_classes_is_their_number() -> None:
    assert inception_score([torch.eye(8).repeat(3, 1)]) == pytest.approx(8.0, rel=1e-12)
    assert inception_score([torch.full((5, 8), 1 / 8)]) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("chunk_size", [7, 500])
def test_precision_and_recall_are_torch_fidelitys(
    generated: Tensor, real: Tensor, chunk_size: int
) -> None:
    metric = pytest.importorskip("torch_fidelity.metric_prc")
    expected = metric.calculate_precision_recall_full(generated.double(), real.double(), 3)
    found = precision_recall(generated, real, chunk_size=chunk_size)
    assert tuple(found) == pytest.approx(expected, abs=1e-7)  # its mean is in float32
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1


def test_precision_and_recall_by_hand() -> None:
    """Real points 0, 1, 2, 10 with k=1: balls of radius 1, 1, 1, 8, borders counted."""
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    generated = torch.tensor([[-0.25], [-1.0], [29.0], [30.0]])  # radii 0.75, 0.75, 1, 1
    found = precision_recall(generated, real, num_neighbours=1)
    assert found == (2 / 4, 1 / 4)  # -1 lies on the border of 0's ball
    assert precision_recall(real, real, num_neighbours=1) == (1.0, 1.0)


def test_precision_needs_more_images_than_neighbours(real: Tensor) -> None:
    with pytest.raises(DisBackError, match="more than 3 images"):
        precision_recall(real[:3], real)
