import torch

from disback_plugin.lab.noise import Noise, seed_of


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
