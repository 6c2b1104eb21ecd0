"""Noise levels follow their distributions, depend on the generator alone, and parse from YAML."""

import pytest
import torch
import yaml
from pydantic import ValidationError

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.diffusion import (
    KarrasGrid,
    LogNormal,
    SigmaSampler,
    UniformT,
    alphas_cumprod,
    karras_sigmas,
)
from disback_plugin.errors import ConfigError

SAMPLERS = [LogNormal(), KarrasGrid(size=40), UniformT(schedule="scaled_linear")]


class Settings(StrictModel):
    sigmas: SigmaSampler


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_karras_levels_are_those_of_the_edm_paper() -> None:
    levels = karras_sigmas(18, 0.002, 80.0).tolist()
    assert levels[:4] == pytest.approx([80.0, 57.58598, 40.78558, 28.37473], rel=1e-5)
    assert levels[-1] == pytest.approx(0.002)
    assert karras_sigmas(1, 0.002, 80.0).tolist() == pytest.approx([80.0])


@pytest.mark.parametrize("bad", [(0, 0.1, 1.0), (5, 1.0, 1.0), (5, 0.0, 1.0)])
def test_impossible_karras_levels_are_refused(bad: tuple) -> None:
    with pytest.raises(ConfigError, match=f"not {bad[0]}, {bad[1]}, {bad[2]}"):
        karras_sigmas(*bad)


def test_log_normal_has_its_mean_and_std_in_log_sigma() -> None:
    logs = LogNormal(mean=0.5, std=2.0).sample(200_000, generator()).log()
    assert logs.mean().item() == pytest.approx(0.5, abs=0.02)
    assert logs.std().item() == pytest.approx(2.0, abs=0.02)


def test_karras_grid_draws_every_level_equally_often() -> None:
    sigmas = KarrasGrid(size=10).sample(50_000, generator())
    values, counts = sigmas.unique(return_counts=True)
    torch.testing.assert_close(values, karras_sigmas(10, 0.002, 80.0).flip(0).float())
    assert counts.float().div(50_000).sub(0.1).abs().max() < 0.01


def test_low_and_high_keep_a_part_of_the_grid_counted_from_the_least_noise() -> None:
    sigmas = KarrasGrid(size=11, low=0.2, high=0.5).sample(1000, generator()).unique()
    expected = karras_sigmas(11, 0.002, 80.0).flip(0)[2:6].float()
    torch.testing.assert_close(sigmas, expected)


def test_uniform_t_draws_the_schedules_own_noise_levels() -> None:
    sigmas = UniformT(schedule="linear").sample(100_000, generator()).unique()
    bar = alphas_cumprod("linear")
    torch.testing.assert_close(sigmas, ((1 - bar) / bar).sqrt().float(), rtol=1e-5, atol=0)


def test_uniform_t_keeps_the_part_between_low_and_high() -> None:
    bar = alphas_cumprod("linear")[[20, 979]]
    sigmas = UniformT(low=0.02, high=0.98).sample(50_000, generator())
    expected = ((1 - bar) / bar).sqrt().float()
    torch.testing.assert_close(
        torch.stack([sigmas.min(), sigmas.max()]), expected, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_draws_depend_on_the_generator_alone(sampler: SigmaSampler) -> None:
    before = torch.get_rng_state()
    first, other = sampler.sample(64, generator(1)), sampler.sample(64, generator(2))
    torch.manual_seed(99)
    assert torch.equal(sampler.sample(64, generator(1)), first)
    assert not torch.equal(first, other)
    assert first.shape == (64,)
    assert first.dtype == torch.float32
    torch.set_rng_state(before)
    sampler.sample(64, generator(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigmas: {name: lognormal, mean: -0.4}", LogNormal(mean=-0.4)),
        ("sigmas: {name: karras, size: 100, high: 0.98}", KarrasGrid(size=100, high=0.98)),
        ("sigmas: {name: uniform-t, schedule: cosine}", UniformT(schedule="cosine")),
    ],
)
def test_yaml_chooses_a_sampler_by_name(text: str, expected: SigmaSampler) -> None:
    assert parse_settings(Settings, yaml.safe_load(text), "config.yaml").sigmas == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: lognormal, maen: 1}", "unknown key 'maen' in LogNormal; did you mean 'mean'"),
        ("{name: normal}", "'lognormal', 'karras', 'uniform-t'"),
        ("{name: karras, low: 0.9, high: 0.1}", "low must be below high, not 0.9 and 0.1"),
        ("{name: karras, sigma_min: 90}", "sigma_min must be below sigma_max, not 90.0"),
        ("{name: uniform-t, schedule: quadratic}", "quadratic"),
    ],
)
def test_wrong_settings_are_refused_by_name_and_value(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(Settings, {"sigmas": yaml.safe_load(text)}, "config.yaml")
    assert message in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        LogNormal().mean = 3.0  # type: ignore[misc]
