"""What a measure says: whether to record, which nodes are noise, what the teacher's pull shares."""

import pytest
import torch

from disback_plugin.config import AutoRecord
from disback_plugin.errors import SessionError
from disback_plugin.measure import RecordingState, TeacherPull, loss_of


@pytest.mark.parametrize(
    ("loss", "common", "start"),
    [
        (0.99, 0.0, "known"),
        (0.99, 0.9, "known"),
        (1.0, 0.49, "path"),
        (1.0, 0.5, "common"),
        (9.0, -0.1, "path"),
    ],
)
def test_a_path_is_for_a_teacher_that_neither_knows_the_samples_nor_pulls_them_alike(
    loss, common, start
):
    assert TeacherPull(loss, common).calls_for(AutoRecord()) == start


@pytest.mark.parametrize("pull", [(float("nan"), 0.0), (float("inf"), 0.0), (2.0, float("nan"))])
def test_a_pull_that_is_not_finite_decides_nothing(pull):
    with pytest.raises(SessionError, match="samples must be finite before its first update"):
        TeacherPull(*pull).calls_for(AutoRecord())


def test_a_common_share_of_1_never_asks():
    assert TeacherPull(2.0, 1.0).calls_for(AutoRecord(common=1.0)) == "path"


def test_a_node_no_nearer_than_the_one_before_is_noise():
    state, rule = RecordingState([10.0]), AutoRecord(noise=0.9)
    kept = [state.keep(rule, loss, last=False) for loss in (8.0, 7.5, 7.1, 7.1, float("nan"), 3.0)]
    assert kept == [True, False, True, False, False, True]
    assert state.losses == [10.0, 8.0, 7.1, 3.0]


def test_recording_ends_at_the_set_fraction_of_the_teachers_loss():
    state, rule = RecordingState([10.0]), AutoRecord(stop_at=0.5)
    ended = []
    for loss in (8.0, 5.1, 4.8):
        state.keep(rule, loss, last=False)
        ended.append(state.near_enough(rule))
    assert ended == [False, False, True]


def test_where_all_nodes_are_noise_the_last_is_kept_so_that_there_is_a_path():
    state, rule = RecordingState([2.0]), AutoRecord()
    assert [state.keep(rule, 3.0, last) for last in (False, True)] == [False, True]
    assert not RecordingState([2.0]).keep(rule, float("nan"), last=True)


X = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])  # mean 0, E|x|^2 = 2.5


def pull(residual, samples=X):
    return TeacherPull.of(residual, samples)


def test_one_shift_and_one_scaling_is_common_to_all_samples():
    for residual in (
        torch.tensor([3.0, -1.0]).expand(4, 2),
        2 * X,
        5 - X,
    ):
        found = pull(residual)
        assert found.common == pytest.approx(1)
        assert found.loss == pytest.approx(loss_of(residual))


def test_the_share_is_the_adjusted_r_squared_of_that_regression():
    turned = X.flip(1) * torch.tensor([1.0, -1.0])  # a rotation: neither a shift nor a scaling
    found = pull(torch.tensor([1.0, 0.0]) + 2 * X + turned)
    # E|r|^2 = 1 + 4 x 2.5 + 2.5, of it 11 in common; 8 values, 3 of them fitted
    assert found.loss == pytest.approx(13.5 / 2)
    assert found.common == pytest.approx(1 - 2.5 / 13.5 * 8 / 5)
    assert pull(turned).common == pytest.approx(1 - 8 / 5)


@pytest.mark.parametrize("shape", [(2, 2), (4, 1), (4, 2), (8, 3), (4, 3, 8, 8)])
def test_noise_has_nothing_in_common_on_average_however_few_the_samples(shape):
    noise = torch.Generator().manual_seed(0)
    shares = [pull(*torch.randn(2, *shape, generator=noise)).common for _ in range(2000)]
    assert abs(sum(shares) / len(shares)) < 0.06


@pytest.mark.parametrize(
    ("residual", "samples", "loss", "common"),
    [
        (torch.ones(1, 2), torch.ones(1, 2), 1.0, 0.0),  # a single sample
        (torch.ones(2, 1), torch.randn(2, 1), 1.0, 0.0),  # as many values as are fitted
        (torch.zeros(3, 2), torch.ones(3, 2), 0.0, 0.0),
        (torch.ones(3, 2), torch.ones(3, 2), 1.0, 1.0),  # samples all the same: no scaling
    ],
)
def test_where_there_is_nothing_to_fit(residual, samples, loss, common):
    assert pull(residual, samples) == TeacherPull(loss, pytest.approx(common))
