"""A node is copied, compared and measured in one pass, the same whole or cut into pieces."""

import pytest
import torch

from disback_plugin.errors import InstallError
from disback_plugin.path import cast, measure_precision
from disback_plugin.real_score.copying import Copied, Piece, copy_node, whole_pieces


def table(seed, dtype=torch.float32):
    noise = torch.Generator().manual_seed(seed)
    return {
        "w": torch.randn(5, 3, generator=noise).to(dtype),
        "b": torch.randn(4, generator=noise).to(dtype),
        "count": torch.tensor([seed]),
    }


def cut(tensors, low, high):
    """One rank's pieces: of each tensor the flat part from `low` to `high`."""
    return {
        name: Piece(value.flatten()[low:high], value.shape, (low, min(high, value.numel())))
        for name, value in tensors.items()
    }


def test_the_report_is_that_of_separate_passes_over_the_tensors():
    teacher, target = table(0), table(0, torch.bfloat16)
    node = {**table(1), "b": target["b"].float()}  # these change nothing
    report = copy_node(whole_pieces(target), node, "stochastic", "node 1", teacher).report()
    for name, value in target.items():
        assert torch.equal(value, cast(node[name], value.dtype, "stochastic", f"node 1/{name}"))
    low = {name: value.to(target[name].dtype) for name, value in teacher.items()}
    assert report.distance == pytest.approx(measure_precision(target, low).distance, rel=1e-6)
    error, change = (
        sum((one[k].float() - two[k].float()).double().square().sum().item() for k in ("w", "b"))
        for one, two in ((target, node), (node, teacher))
    )
    assert report.rounding_error == (error / change) ** 0.5 > 0
    assert (report.changed_tensors, report.num_tensors) == (2, 3)  # the weight and the counter


def test_without_a_cast_nothing_is_lost_and_the_second_copy_changes_nothing():
    teacher, target, node = table(0), table(0), table(1)
    first = copy_node(whole_pieces(target), node, teacher=teacher).report()
    assert (first.changed_tensors, first.rounding_error) == (3, 0.0)
    assert first.distance == pytest.approx(measure_precision(node, teacher).distance, rel=1e-6)
    assert copy_node(whole_pieces(target), node).report().changed_tensors == 0


@pytest.mark.parametrize("at", [0, 2, 7, 15])
def test_pieces_of_two_ranks_make_the_whole(at):
    teacher, node = table(0), table(1)
    whole, shards = table(0, torch.bfloat16), table(0, torch.bfloat16)
    expected = copy_node(whole_pieces(whole), node, "stochastic", "n", teacher).report()
    ranks = [
        copy_node(cut(shards, low, high), node, "stochastic", "n", teacher)
        for low, high in ((0, at), (at, 15))
    ]
    assert all(torch.equal(shards[name], whole[name]) for name in whole)
    sums = (sum(getattr(rank, n) for rank in ranks) for n in ("gap", "size", "error", "change"))
    one, other = (rank.changed for rank in ranks)
    changed = {name: one[name] or other[name] for name in whole}
    found = Copied(changed, *sums).report()
    assert found.changed_tensors == expected.changed_tensors
    assert found.distance == pytest.approx(expected.distance, rel=1e-12)
    assert found.rounding_error == pytest.approx(expected.rounding_error, rel=1e-12)


def test_a_node_that_does_not_fit_a_piece_is_refused_before_anything_is_copied():
    target = table(0)
    with pytest.raises(InstallError, match=r"unexpected \['more'\].*'b' has shape \(5,\), exp"):
        copy_node(cut(target, 0, 2), {**table(1), "b": torch.ones(5), "more": torch.ones(1)})
    assert all(torch.equal(value, target[name]) for name, value in table(0).items())
