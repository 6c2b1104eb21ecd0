import pytest
import torch

from disback_plugin.diffusion import LogNormal
from disback_plugin.lab.noise import Noise, seed_of
from disback_plugin.lab.trainer.batches import BatchSampler


def test_seeds_are_the_same_in_every_process_and_version() -> None:
    assert seed_of(0, 0, "student/z") == 9134755112747398235
    assert 0 <= seed_of(-1, 10**9, "x") < 2**63


def test_every_seed_step_and_stream_has_noise_of_its_own() -> None:
    places = [(seed, step, stream) for seed in (0, 1) for step in (0, 1, 11) for stream in "ab"]
    draws = {tuple(Noise(a).normal(b, c, (4,)).tolist()) for a, b, c in places}
    assert len(draws) == len(places)


def test_noise_depends_on_nothing_that_happened_before() -> None:
    torch.manual_seed(1)
    first = Noise(3).normal(7, "eps", (5, 2))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    Noise(3).normal(6, "eps", (5, 2))
    assert torch.equal(Noise(3).normal(7, "eps", (5, 2)), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_seed_of_a_step_differs_by_rank_but_not_by_history() -> None:
    values = []
    for rank in (0, 1, 0):
        Noise(0, rank, 2).seed_global(5)
        values.append(torch.rand(()).item())
    assert values[0] == values[2] != values[1]


@pytest.mark.parametrize("num_classes", [0, 10])
def test_ranks_together_draw_what_one_process_draws(num_classes: int) -> None:
    def draw(rank: int, num_ranks: int) -> list[torch.Tensor]:
        noise, device = Noise(4, rank, num_ranks), torch.device("cpu")
        drawn = BatchSampler(noise, 8, (3,), (1, 2, 2), num_classes, device).draw(
            9, "s", LogNormal()
        )
        cond = [] if drawn.cond is None else [drawn.cond]
        return [drawn.z, drawn.eps, drawn.sigma, *cond]

    whole, parts = draw(0, 1), [draw(rank, 4) for rank in range(4)]
    assert len(whole) == (4 if num_classes else 3)
    for index, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[index] for part in parts]), expected)


def test_parts_for_accumulation_are_the_batch_in_order() -> None:
    sampler = BatchSampler(Noise(0), 6, (2,), (2,), 3, torch.device("cpu"))
    whole = sampler.draw(0, "s", LogNormal())
    parts = whole.split(3)
    assert [len(part.z) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part.sigma for part in parts]), whole.sigma)
    assert whole.cond is not None
    assert torch.equal(torch.cat([p.cond for p in parts if p.cond is not None]), whole.cond)
