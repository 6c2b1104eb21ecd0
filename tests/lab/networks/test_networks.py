"""What every network owes its denoiser: shapes, conditioning, seeding, precision, size."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from disback_plugin.diffusion import (
    EDMDenoiser,
    EpsDenoiser,
    LogNormal,
    UniformT,
    alphas_cumprod,
    denoising_score_matching,
    diffuse,
)
from disback_plugin.errors import ConfigError, DisBackError
from disback_plugin.lab.networks import ResidualMLP, SmallUNet

Build = Callable[..., nn.Module]


def mlp(**settings: object) -> nn.Module:
    return ResidualMLP((1, 8, 8), hidden=32, num_blocks=2, **settings)


def unet(**settings: object) -> nn.Module:
    return SmallUNet((1, 8, 8), channels=8, **settings)


BOTH = pytest.mark.parametrize("build", [mlp, unet])


def seeded(build: Build, seed: int = 0, **settings: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(**settings)


def inputs(num: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 1, 8, 8, generator=generator), torch.linspace(-1.5, 1.1, num)


@BOTH
def test_the_weights_and_the_answer_follow_the_seed_bit_for_bit(build: Build) -> None:
    x, c = inputs()
    first, again, other = (seeded(build, seed)(x, c) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@BOTH
def test_samples_of_a_batch_do_not_influence_each_other(build: Build) -> None:
    x, c = inputs()
    cond = torch.arange(6)
    network = seeded(build, num_classes=10)
    alone = torch.cat([network(x[i : i + 1], c[i : i + 1], cond[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(network(x, c, cond), alone, rtol=1e-4, atol=1e-5)


@BOTH
def test_noise_level_and_label_change_the_answer(build: Build) -> None:
    x, c = inputs()
    network = seeded(build, num_classes=10)
    zeros, ones = torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    base = network(x, c, zeros)
    assert (network(x, c + 0.1, zeros) - base).abs().max() > 1e-3
    assert (network(x, c, ones) - base).abs().max() > 1e-3
    assert (network(x, c, None) - base).abs().max() > 1e-3


@BOTH
def test_without_cond_the_label_table_plays_no_part(build: Build) -> None:
    x, c = inputs()
    network = seeded(build, num_classes=10)
    before = network(x, c)
    nn.init.constant_(network.conditioning.label.weight, 7.0)
    assert torch.equal(network(x, c), before)


@BOTH
def test_input_skip_adds_the_input_to_the_output(build: Build) -> None:
    x, c = inputs()
    plain, skipping = (seeded(build, input_skip=skip)(x, c) for skip in (False, True))
    torch.testing.assert_close(skipping, plain + x)


@BOTH
def test_zero_output_starts_at_zero_and_can_leave_it(build: Build) -> None:
    x, c = inputs()
    network = seeded(build, zero_output=True)
    out = network(x, c)
    assert torch.equal(out, torch.zeros_like(x))
    (out - 1).square().sum().backward()
    assert network.last.weight.grad.abs().max() > 0
    assert seeded(build)(x, c).abs().max() > 0.01


@BOTH
def test_every_weight_is_used(build: Build) -> None:
    x, c = inputs(10)
    network = seeded(build, num_classes=10)
    network(x, c, torch.arange(10)).square().sum().backward()
    idle = [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max()
    ]
    assert idle == []


@BOTH
def test_bf16_weights_answer_in_bf16_close_to_float32(build: Build) -> None:
    x, c = inputs()
    network = seeded(build)
    expected = network(x, c)
    found = network.to(torch.bfloat16)(x.to(torch.bfloat16), c)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


@BOTH
def test_bf16_weights_tell_neighbouring_timesteps_apart(build: Build) -> None:
    network = seeded(build, noise_range=1000.0).to(torch.bfloat16)
    seen = []
    network.conditioning.inner.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x, _ = inputs(3)
    network(x.to(torch.bfloat16), torch.tensor([997.0, 998.0, 999.0]))
    waves = seen[0].float()
    assert (waves[0] - waves[1]).abs().max() > 0.05  # 997 and 998 are one number in bf16
    assert (waves[1] - waves[2]).abs().max() > 0.05


@BOTH
def test_labels_for_an_unlabelled_network_are_refused(build: Build) -> None:
    x, c = inputs()
    with pytest.raises(DisBackError, match="num_classes=0"):
        seeded(build)(x, c, torch.zeros(6, dtype=torch.int64))


@BOTH
@pytest.mark.parametrize(
    "cond", [torch.zeros(6), torch.zeros(5, dtype=torch.int64), torch.zeros(6, 10)]
)
def test_labels_of_another_type_or_shape_are_refused(build: Build, cond: Tensor) -> None:
    x, c = inputs()
    with pytest.raises(DisBackError, match=r"int64 labels of shape \(6,\), but it is"):
        seeded(build, num_classes=10)(x, c, cond)


@pytest.mark.parametrize(
    ("network", "most"),
    [
        (ResidualMLP((2,)), 250_000),
        (ResidualMLP((1, 8, 8), num_classes=10), 260_000),
        (SmallUNet((1, 8, 8), num_classes=10), 300_000),
        (SmallUNet((1, 16, 16), multipliers=(1, 2, 2)), 600_000),
    ],
)
def test_default_networks_stay_small(network: nn.Module, most: int) -> None:
    count = sum(p.numel() for p in network.parameters())
    assert most * 0.8 < count < most


def test_the_unet_upsamples_by_nearest_neighbour() -> None:
    from disback_plugin.lab.networks.unets import _double

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_double(x), nn.functional.interpolate(x, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("size", [8, 16])
def test_the_unet_sees_the_whole_image(size: int) -> None:
    multipliers = (1, 2) if size == 8 else (1, 2, 2)
    network = seeded(lambda: SmallUNet((1, size, size), channels=8, multipliers=multipliers))
    x = torch.zeros(1, 1, size, size, requires_grad=True)
    network(x, torch.zeros(1))[0, 0, 0, 0].backward()
    assert (x.grad != 0).all()


def test_the_unet_hands_the_fine_level_across_beside_the_coarse_one() -> None:
    network, seen = seeded(unet), {}
    network.down[0][0].register_forward_hook(lambda _, args, out: seen.update(fine=out))
    network.middle[0].register_forward_hook(lambda _, args, out: seen.update(coarse=out))
    network.up[0][0].register_forward_pre_hook(lambda _, args: seen.update(joined=args[0]))
    network(*inputs())
    assert torch.equal(seen["joined"][:, 16:], seen["fine"])
    assert torch.equal(seen["joined"][:, :16, ::2, ::2], seen["coarse"])


def test_a_network_without_attention_has_none() -> None:
    names = [name for name, _ in SmallUNet((1, 8, 8), channels=8, attention=False).named_modules()]
    assert names
    assert not [name for name in names if "attention" in name]


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((1, 8, 6), {"multipliers": (1, 2, 2)}, r"divisible by 4 for 3 levels.*\(1, 8, 6\)"),
        ((64,), {}, r"\(C, H, W\).*\(64,\)"),
        ((1, 8, 8), {"channels": 12}, "channels 12"),
        ((1, 8, 8), {"num_blocks": 0}, "num_blocks 0"),
        ((1, 8, 8), {"multipliers": ()}, r"multipliers \(\)"),
        ((1, 8, 8), {"noise_range": 0.0}, "noise_range > 0, not 32, 0 and 0.0"),
    ],
)
def test_an_impossible_unet_is_refused_with_what_was_asked(
    shape: tuple, settings: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SmallUNet(shape, **{"channels": 8, **settings})


def test_an_impossible_mlp_is_refused_with_what_was_asked() -> None:
    with pytest.raises(ConfigError, match=r"\(2,\) and 0"):
        ResidualMLP((2,), num_blocks=0)


@pytest.mark.parametrize("kind", ["edm", "eps"])
def test_training_reaches_the_known_minimum_of_the_loss(kind: str) -> None:
    """On N(0, 0.5^2) data the exact denoiser's loss is known, and no loss is below it."""
    generator = torch.Generator().manual_seed(0)
    if kind == "edm":
        network = seeded(lambda: ResidualMLP((2,), 64, 2))
        denoiser, sampler = EDMDenoiser(network, 0.5), LogNormal()
    else:
        network = seeded(lambda: ResidualMLP((2,), 64, 2, noise_range=EpsDenoiser.noise_range))
        denoiser = EpsDenoiser(network, alphas_cumprod("linear"))
        sampler = UniformT(schedule="linear")
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)

    def loss(num: int, weighting: str) -> Tensor:
        x0 = 0.5 * torch.randn(num, 2, generator=generator)
        sigma = sampler.sample(num, generator)
        x = diffuse(x0, sigma, torch.randn(num, 2, generator=generator))
        return denoising_score_matching(denoiser(x, sigma), x0, sigma, weighting)

    for _ in range(300):
        optimizer.zero_grad()
        loss(256, "edm" if kind == "edm" else "eps").backward()
        optimizer.step()
    with torch.no_grad():
        found = loss(100_000, "edm" if kind == "edm" else "eps").item()
    bar = alphas_cumprod("linear")
    minimum = 1.0 if kind == "edm" else (0.25 / (0.25 + (1 - bar) / bar)).mean().item()
    assert found == pytest.approx(minimum, rel=0.05)
