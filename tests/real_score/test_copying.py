"""A node is copied, compared and measured in one pass, the same whole or cut into pieces."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from disback_plugin.errors import InstallError
from disback_plugin.path import cast, measure_precision
from disback_plugin.path.rounding import _table
from disback_plugin.real_score.copying import Casting, Copied, Scratch, copy_node
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.pieces import CHUNK, Piece, whole_pieces


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
    report = copy_node(
        whole_pieces(target), node, Casting("stochastic", "node 1", teacher)
    ).report()
    for name, value in target.items():
        assert torch.equal(value, cast(node[name], value.dtype, "stochastic", f"node 1/{name}"))
    low = {name: value.to(target[name].dtype) for name, value in teacher.items()}
    assert report.distance == pytest.approx(measure_precision(target, low).distance, rel=1e-6)
    error, change = (
        sum((one[k].float() - two[k].float()).double().square().sum().item() for k in ("w", "b"))
        for one, two in ((target, node), (node, teacher))
    )
    assert report.rounding_error == (error / change) ** 0.5 > 0
    along = sum(
        float(((target[k].double() - low[k].double()) * (node[k] - teacher[k])).sum())
        for k in ("w", "b")
    )
    assert report.kept == pytest.approx(along / change, rel=1e-6)
    assert (report.changed_tensors, report.num_tensors) == (2, 3)  # the weight and the counter


def test_without_a_cast_nothing_is_lost_and_the_second_copy_changes_nothing():
    teacher, target, node = table(0), table(0), table(1)
    first = copy_node(whole_pieces(target), node, Casting(teacher=teacher)).report()
    assert (first.changed_tensors, first.rounding_error, first.kept) == (3, 0.0, 1.0)
    assert first.distance is None  # that of the node, which its path knows
    assert copy_node(whole_pieces(target), node).report().changed_tensors == 0


@pytest.mark.parametrize("at", [0, 2, 7, 15])
def test_pieces_of_two_ranks_make_the_whole(at):
    teacher, node = table(0), table(1)
    whole, shards = table(0, torch.bfloat16), table(0, torch.bfloat16)
    expected = copy_node(whole_pieces(whole), node, Casting("stochastic", "n", teacher)).report()
    ranks = [
        copy_node(cut(shards, low, high), node, Casting("stochastic", "n", teacher))
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_tensor_of_many_chunks_is_cast_as_a_whole_one_in_any_memory_format(dtype, rounding):
    noise = torch.Generator().manual_seed(0)
    node = {"w": torch.randn(61, 137, 9, 7, generator=noise)}
    expected = cast(node["w"], dtype, rounding, "n/w")
    for form in (torch.contiguous_format, torch.channels_last):
        own = {"w": torch.zeros(61, 137, 9, 7, dtype=dtype).to(memory_format=form)}
        footing = Footing()
        copied = copy_node(whole_pieces(own), node, Casting(rounding, "n", node), footing)
        assert copied.changed == {"w": True}
        assert torch.equal(own["w"], expected)
        assert own["w"].is_contiguous(memory_format=form)
        assert footing.moved(whole_pieces(own)) == []
        own["w"][60, 136, 8, 6] += 1
        assert footing.moved(whole_pieces(own)) == ["w"]


def test_figures_of_a_large_tensor_are_of_a_sample_and_near_the_whole():
    noise = torch.Generator().manual_seed(0)
    teacher = {"w": torch.randn(1_000_003, generator=noise)}
    node = {"w": teacher["w"] + 0.01 * torch.randn(1_000_003, generator=noise)}
    own = {"w": teacher["w"].bfloat16()}
    report = copy_node(whole_pieces(own), node, Casting("nearest", "n", teacher)).report()
    exact = measure_precision(own, {"w": teacher["w"].bfloat16()}).distance
    error = (own["w"].float() - node["w"]).norm() / (node["w"] - teacher["w"]).norm()
    assert report.distance == pytest.approx(exact, rel=0.02)
    assert report.rounding_error == pytest.approx(float(error), rel=0.02)


class NewMemory(TorchDispatchMode):
    """Notes the bytes of every tensor that comes to be."""

    def __init__(self, *known):
        super().__init__()
        self.known, self.sizes = {value.untyped_storage().data_ptr() for value in known}, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple) else (made,):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.sizes.append(storage.nbytes())
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_switch_makes_nothing_that_is_larger_than_a_chunk(dtype):
    node, own = {"w": torch.rand(5 * CHUNK + 3)}, {"w": torch.ones(5 * CHUNK + 3, dtype=dtype)}
    cast(node["w"][:9], dtype, "stochastic", "")  # makes the table of draws, once a process
    casting = Casting("stochastic", "n", {"w": node["w"] + 1})
    with NewMemory(node["w"], own["w"], casting.teacher["w"], _table(torch.device("cpu"))) as new:
        copied = copy_node(whole_pieces(own), node, casting, Footing())
    assert copied.report().changed_tensors == 1
    assert len(new.sizes) > 20
    assert max(new.sizes) <= 4 * CHUNK


def test_only_what_the_network_refuses_is_said_of_it(monkeypatch):
    own = {"w": torch.zeros(1).expand(3)}  # one value that stands three times
    with pytest.raises(InstallError, match="'w' of the network cannot be written in place"):
        copy_node(whole_pieces(own), {"w": torch.ones(3)})
    monkeypatch.setattr(Scratch, "like", lambda self, value: torch.zeros(1).expand(value.shape))
    with pytest.raises(RuntimeError, match="single memory location"):
        copy_node(whole_pieces({"w": torch.zeros(3)}), {"w": torch.ones(3)})
