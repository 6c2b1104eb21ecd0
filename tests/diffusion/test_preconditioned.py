"""Every parametrisation of the same model is the same denoiser; arithmetic stays in float32."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from disback_plugin.diffusion import (
    ConsistencyDenoiser,
    EDMDenoiser,
    EpsDenoiser,
    PreconditionedDenoiser,
    VDenoiser,
    alphas_cumprod,
)
from disback_plugin.errors import ConfigError, DisBackError

MEAN, STD = 1.5, 0.7  # the data: N(MEAN, STD^2) in every dimension
BAR = alphas_cumprod("linear")


class EDMNetwork(nn.Module):
    """The F that EDM training converges to on the Gaussian data, with sigma_data = 0.5."""

    def forward(self, x: Tensor, c: Tensor, cond: Tensor | None) -> Tensor:
        sigma = (4 * c).exp()[:, None]
        size = (sigma**2 + 0.25).sqrt()
        mean = (STD**2 * x * size + sigma**2 * MEAN) / (STD**2 + sigma**2)
        return (mean - 0.25 / size**2 * x * size) / (0.5 * sigma / size)


class VPNetwork(nn.Module):
    """The eps or v prediction that DDPM training converges to on the Gaussian data."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, c: Tensor, cond: Tensor | None) -> Tensor:
        bar = BAR[c.round().long()][:, None]
        mean = (STD**2 * bar.sqrt() * x + (1 - bar) * MEAN) / (bar * STD**2 + 1 - bar)
        eps = (x - bar.sqrt() * mean) / (1 - bar).sqrt()
        return eps if self.kind == "eps" else bar.sqrt() * eps - (1 - bar).sqrt() * mean


class Probe(nn.Module):
    """Remembers its inputs and answers with a constant; its weight sets its dtype."""

    def __init__(self, dtype: torch.dtype, answer: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=dtype))
        self.answer = answer

    def forward(self, x: Tensor, c: Tensor, cond: Tensor | None) -> Tensor:
        self.seen = (x, c, cond)
        return torch.full_like(x, self.answer)


def build(name: str, network: nn.Module) -> PreconditionedDenoiser:
    if name in ("eps", "v"):
        return {"eps": EpsDenoiser, "v": VDenoiser}[name](network, BAR)
    return {"edm": EDMDenoiser, "consistency": ConsistencyDenoiser}[name](network, sigma_data=0.5)


@pytest.mark.parametrize(
    ("name", "network"),
    [("edm", EDMNetwork()), ("eps", VPNetwork("eps")), ("v", VPNetwork("v"))],
)
def test_each_parametrisation_gives_the_posterior_mean(name: str, network: nn.Module) -> None:
    t = torch.tensor([0, 3, 200, 600, 999])
    sigma = ((1 - BAR[t]) / BAR[t]).sqrt()
    x = MEAN + torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double() * 5
    expected = (STD**2 * x + sigma[:, None] ** 2 * MEAN) / (STD**2 + sigma[:, None] ** 2)
    torch.testing.assert_close(build(name, network)(x, sigma), expected, rtol=0, atol=1e-9)


def test_edm_scalings_are_table_1_of_the_paper_at_literal_values() -> None:
    scale = EDMDenoiser(nn.Identity(), sigma_data=0.5).scalings(torch.tensor([1.0, math.e]))
    assert scale.c_skip[0].item() == pytest.approx(0.2)
    assert scale.c_out[0].item() == pytest.approx(0.5 / math.sqrt(1.25))
    assert scale.c_in[0].item() == pytest.approx(1 / math.sqrt(1.25))
    assert scale.c_noise.tolist() == pytest.approx([0.0, 0.25])


def test_edm_inputs_and_targets_have_unit_variance_at_every_noise_level() -> None:
    sigma = torch.logspace(-3, 2, 20, dtype=torch.float64)
    scale = EDMDenoiser(nn.Identity(), sigma_data=0.8).scalings(sigma)
    target = ((1 - scale.c_skip) * 0.8) ** 2 + (scale.c_skip * sigma) ** 2
    one = torch.ones(20, dtype=torch.float64)
    torch.testing.assert_close(scale.c_in**2 * (sigma**2 + 0.8**2), one)
    torch.testing.assert_close(target / scale.c_out**2, one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_consistency_model_is_the_identity_at_sigma_min(dtype: torch.dtype) -> None:
    denoiser = ConsistencyDenoiser(Probe(dtype, answer=3.0), sigma_min=0.002)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(denoiser(x, torch.full((4,), 0.002)), x)
    assert not torch.equal(denoiser(x, torch.full((4,), 0.003)), x)


def test_consistency_scalings_at_literal_values() -> None:
    scale = ConsistencyDenoiser(nn.Identity(), sigma_min=0.002).scalings(torch.tensor([1.002]))
    assert scale.c_skip.item() == pytest.approx(0.25 / 1.25)
    assert scale.c_out.item() == pytest.approx(0.5 / math.sqrt(1.002**2 + 0.25))
    assert scale.c_in.item() == pytest.approx(1 / math.sqrt(1.002**2 + 0.25))
    assert scale.c_noise.item() == pytest.approx(250 * math.log(1.002), rel=1e-4)


@pytest.mark.parametrize("name", ["eps", "v"])
def test_vp_networks_see_the_variance_preserving_sample_and_its_timestep(name: str) -> None:
    probe = Probe(torch.float32)
    sigma = ((1 - BAR[[0, 500, 999]]) / BAR[[0, 500, 999]]).sqrt().float()
    build(name, probe)(torch.ones(3, 2), sigma, torch.tensor([4, 5, 6]))
    x, t, cond = probe.seen
    torch.testing.assert_close(x[:, 0], BAR[[0, 500, 999]].sqrt().float())
    torch.testing.assert_close(t, torch.tensor([0.0, 500.0, 999.0]), rtol=0, atol=1e-3)
    assert cond.tolist() == [4, 5, 6]


def test_nearest_t_rounds_to_a_trained_timestep() -> None:
    sigma = EpsDenoiser(nn.Identity(), BAR).schedule.sigma_of_t(torch.tensor([10.4, 10.6]))
    assert EpsDenoiser(nn.Identity(), BAR, nearest_t=True).timestep(sigma).tolist() == [10, 11]
    assert EpsDenoiser(nn.Identity(), BAR).timestep(sigma).tolist() == pytest.approx(
        [10.4, 10.6], abs=1e-3
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["edm", "eps", "v", "consistency"])
def test_half_precision_networks_keep_float32_samples_and_timesteps(
    name: str, dtype: torch.dtype
) -> None:
    probe = Probe(dtype)
    denoiser = build(name, probe)
    x = torch.full((1, 2), 50.123)  # 50.0 or 50.25 in bf16
    sigma = torch.tensor([denoiser.sigma_min])
    x0 = denoiser(x, sigma)
    assert probe.seen[0].dtype == dtype
    assert probe.seen[1].dtype == torch.float32
    assert x0.dtype == torch.float32
    torch.testing.assert_close(x0, x, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", ["edm", "eps", "v", "consistency"])
def test_autocast_reaches_the_network_but_not_the_preconditioning(name: str) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            nn.init.zeros_(self.linear.weight)

        def forward(self, x: Tensor, c: Tensor, cond: Tensor | None) -> Tensor:
            self.out = self.linear(x)
            return self.out

    denoiser = build(name, Network())
    nn.init.constant_(denoiser.network.linear.bias, 0.5)  # exact in bf16
    x = 50 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    sigma = torch.logspace(-2, 1, 8)
    expected = denoiser(x, sigma)
    with torch.autocast("cpu", torch.bfloat16):
        found = denoiser(x, sigma)
    assert denoiser.network.out.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_timesteps_survive_a_cast_of_the_whole_denoiser_to_bf16() -> None:
    denoiser = EpsDenoiser(Probe(torch.float32), BAR)
    sigma = denoiser.schedule.sigma_of_t(torch.tensor([998.0, 999.0]))
    before = denoiser.timestep(sigma)
    cast = copy.deepcopy(denoiser).to(torch.bfloat16)
    assert cast.network.weight.dtype == torch.bfloat16
    assert torch.equal(cast.timestep(sigma), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_answer_has_the_dtype_of_x(dtype: torch.dtype) -> None:
    x = torch.ones(2, 3, dtype=dtype)
    x0 = EDMDenoiser(Probe(torch.float32))(x, torch.tensor([1.0, 2.0]))
    assert x0.dtype == dtype
    torch.testing.assert_close(x0[0, 0].float(), torch.tensor(0.2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["edm", "eps", "v", "consistency"])
def test_half_precision_samples_are_rounded_once_at_the_end(name: str) -> None:
    denoiser = build(name, Probe(torch.float32, answer=0.3))
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    sigma = torch.logspace(-2, 1, 64).to(torch.bfloat16)
    expected = denoiser(x.float(), sigma.float()).to(torch.bfloat16)
    assert torch.equal(denoiser(x, sigma), expected)


@pytest.mark.parametrize("name", ["edm", "eps", "v", "consistency"])
def test_the_state_of_a_denoiser_is_its_networks_alone(name: str) -> None:
    assert list(build(name, Probe(torch.float32)).state_dict()) == ["network.weight"]


def test_a_network_that_also_predicts_a_variance_is_refused_by_shape() -> None:
    network = nn.Sequential()
    network.forward = lambda x, c, cond: torch.cat([x, x], 1)  # type: ignore[method-assign]
    with pytest.raises(DisBackError, match=r"\(2, 2, 4, 4\) to an input of shape \(2, 1, 4, 4\)"):
        EDMDenoiser(network)(torch.zeros(2, 1, 4, 4), torch.ones(2))


def test_impossible_settings_are_refused_with_the_value_seen() -> None:
    with pytest.raises(ConfigError, match=r"sigma_data must be positive.*not 0"):
        EDMDenoiser(nn.Identity(), sigma_data=0)
    with pytest.raises(ConfigError, match="not 80 and 2"):
        ConsistencyDenoiser(nn.Identity(), sigma_min=80, sigma_max=2)
