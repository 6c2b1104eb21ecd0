"""Casting a node to 16 bits: unbiased, deterministic, and reported."""

import itertools

import pytest
import torch

from disback_plugin.path import cast, choose_rounding, measure_precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stochastic_rounding_is_unbiased_and_picks_a_neighbour(dtype):
    value = torch.full((200_000,), 1.0 + 2**-12)  # between 1 and the next 16-bit float
    step = {torch.bfloat16: 2**-7, torch.float16: 2**-10}[dtype]
    rounded = cast(value, dtype, "stochastic", "seed").float()
    assert set(rounded.unique().tolist()) == {1.0, 1.0 + step}
    share = 2**-12 / step
    assert abs((rounded != 1.0).float().mean() - share) < 5 * (share / 200_000) ** 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_exact_values_negatives_zero_and_infinities_stay(dtype):
    value = torch.tensor([0.0, -0.0, 1.0, -1.5, float("inf"), -float("inf")])
    assert torch.equal(cast(value, dtype, "stochastic", "s"), value.to(dtype))


def test_rounding_moves_away_from_zero_only_to_the_adjacent_float():
    value = -(1.0 + torch.rand(1000, generator=torch.Generator().manual_seed(0)))
    rounded = cast(value, torch.bfloat16, "stochastic", "s").float()
    assert ((rounded - value).abs() < 2**-7).all()
    assert (rounded < value).any()
    assert (rounded > value).any()


def test_tiny_values_round_to_zero_or_the_smallest_subnormal():
    tiny = torch.full((1000,), -(2.0**-135))
    rounded = cast(tiny, torch.bfloat16, "stochastic", "s").float()
    assert set(rounded.unique().tolist()) == {0.0, -(2.0**-133)}


def test_the_same_seed_rounds_the_same_way_and_another_does_not():
    value = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    first = cast(value, torch.bfloat16, "stochastic", "node 1/w")
    assert torch.equal(first, cast(value, torch.bfloat16, "stochastic", "node 1/w"))
    assert not torch.equal(first, cast(value, torch.bfloat16, "stochastic", "node 2/w"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_weight_draws_by_its_place_however_the_tensor_is_cut(dtype):
    value = torch.randn(600_000, generator=torch.Generator().manual_seed(0))
    whole = cast(value, dtype, "stochastic", "node 1/w")
    cuts = (0, 1, 999, 262_143, 262_145, 400_001, 600_000)
    parts = [
        cast(value[low:high], dtype, "stochastic", "node 1/w", low)
        for low, high in itertools.pairwise(cuts)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_weights_far_apart_draw_for_themselves():
    value = torch.full((1 << 20,), 1.0 + 2**-8)  # halfway between two bfloat16
    up = (cast(value, torch.bfloat16, "stochastic", "s") > 1).view(4, -1).float()
    assert abs(up.mean() - 0.5) < 5 * 0.5 / 1024
    both = (up[:3] * up[1:]).mean(dim=1)  # of two that are a block of draws apart
    assert ((both - 0.25).abs() < 5 * 0.43 / 512).all()


def test_what_is_not_finite_stays_so_among_weights_that_are_rounded():
    odd = torch.tensor([-1, 0x7FFFFFFF, 0x7F800001, 0x7F800000], dtype=torch.int32)
    value = torch.cat([odd.view(torch.float32), torch.full((996,), 1.0 + 2**-8)])
    rounded = cast(value, torch.bfloat16, "stochastic", "s")
    assert rounded[:3].isnan().all()
    assert rounded[3] == float("inf")
    plain = cast(value[4:], torch.bfloat16, "stochastic", "s", 4)
    assert torch.equal(rounded[4:], plain)


def test_casting_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    cast(torch.rand(10, generator=torch.Generator()), torch.bfloat16, "stochastic", "s")
    assert torch.equal(before, torch.get_rng_state())


def test_nearest_is_a_plain_cast_and_float32_is_untouched():
    value = torch.rand(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cast(value, torch.bfloat16, "nearest", "s"), value.bfloat16())
    assert torch.equal(cast(value, torch.float32, "stochastic", "s"), value)


def test_distance_of_a_known_change():
    teacher = {"w": torch.tensor([3.0, 4.0]), "n": torch.tensor(1)}
    node = {"w": torch.tensor([3.0, 4.5]), "n": torch.tensor(2)}
    precision = measure_precision(node, teacher)
    assert precision.distance == pytest.approx(0.1)
    assert precision.bf16_distance == pytest.approx(0.1)
    assert precision.bf16_survives == 1.0


def test_a_change_below_one_bfloat16_unit_is_reported_as_erased():
    teacher = {"w": torch.ones(10)}
    precision = measure_precision({"w": torch.ones(10) + 1e-4}, teacher)
    assert precision.distance == pytest.approx(1e-4, rel=1e-3)
    assert precision.bf16_distance == 0.0
    assert precision.bf16_survives == 0.0


def test_auto_is_nearest_unless_the_teacher_is_exact_in_16_bits():
    torch.manual_seed(0)
    fine = {"w": torch.randn(64, 64), "b": torch.zeros(64), "n": torch.tensor(3)}
    coarse = {name: value.bfloat16() for name, value in fine.items()}
    for given, dtype, due in (
        (fine, torch.bfloat16, "nearest"),
        (coarse, torch.bfloat16, "stochastic"),
        ({name: value.float() for name, value in coarse.items()}, torch.bfloat16, "stochastic"),
        (coarse, torch.float32, "nearest"),  # nothing is cast
    ):
        assert choose_rounding("auto", given, {dtype, torch.int64}) == due
        assert choose_rounding("nearest", given, {dtype}) == "nearest"
        assert choose_rounding("stochastic", given, {dtype}) == "stochastic"


@pytest.mark.parametrize(("exact", "rounding"), [(False, "nearest"), (True, "stochastic")])
def test_what_auto_chooses_keeps_a_close_path_in_the_answers(exact, rounding):
    """A wide layer, every weight moved alike by a tenth of a unit in the last place of bfloat16."""
    torch.manual_seed(0)
    teacher = 0.02 * torch.randn(256, 1024)
    teacher = teacher.bfloat16().float() if exact else teacher
    step, x = 1e-5 * torch.randn(256, 1).sign() * torch.ones(1024), torch.ones(1024)
    error = {}
    for kind in ("nearest", "stochastic"):
        node = cast(teacher + step, torch.bfloat16, kind, "s").float()
        answer = (node - teacher.bfloat16().float()) @ x
        error[kind] = float((answer - step @ x).norm() / (step @ x).norm())
    assert min(error, key=error.get) == rounding
    assert choose_rounding("auto", {"w": teacher}, {torch.bfloat16}) == rounding
    assert error[rounding] < 0.5
