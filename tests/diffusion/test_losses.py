"""Score matching has its minimum at the exact denoiser; student gradients lead to the teacher."""

import pytest
import torch
from torch import Tensor

from disback_plugin.diffusion import (
    STUDENT_GRADIENTS,
    GaussianMixtureDenoiser,
    LogNormal,
    denoising_score_matching,
    diff_instruct,
    diffuse,
    dmd,
    eps_from_x0,
    get_student_gradient,
    register_student_gradient,
    score,
    student_loss,
    vsd,
)
from disback_plugin.errors import ConfigError

METHODS = ["diff-instruct", "dmd", "vsd"]
STD, SIGMA = 0.5, 0.7
POSTERIOR = STD**2 * SIGMA**2 / (STD**2 + SIGMA**2)  # Var[x0 | x]


@pytest.fixture(scope="module")
def exact() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x0_hat of the exact denoiser, x0 and sigma for 400,000 one-dimensional samples."""
    generator = torch.Generator().manual_seed(0)
    x0 = STD * torch.randn(400_000, 1, generator=generator)
    sigma = torch.full((400_000,), SIGMA)
    x = diffuse(x0, sigma, torch.randn(400_000, 1, generator=generator))
    return GaussianMixtureDenoiser(torch.ones(1), torch.zeros(1, 1), STD)(x, sigma), x0, sigma


@pytest.mark.parametrize(
    ("weighting", "weight"),
    [
        ("uniform", 1.0),
        ("eps", 1 / SIGMA**2),
        ("edm", (SIGMA**2 + STD**2) / (SIGMA * STD) ** 2),
        ("dmd2", 1 / SIGMA**2 + 1 / STD**2),
    ],
)
def test_the_minimum_is_the_weighted_posterior_variance(
    weighting: str, weight: float, exact: tuple
) -> None:
    loss = denoising_score_matching(*exact, weighting, sigma_data=STD)
    assert loss.item() == pytest.approx(weight * POSTERIOR, rel=0.01)


@pytest.mark.parametrize("offset", [-0.1, 0.1])
def test_any_offset_from_the_exact_denoiser_costs_its_square(offset: float, exact: tuple) -> None:
    x0_hat, x0, sigma = exact
    best = denoising_score_matching(x0_hat, x0, sigma, "uniform")
    worse = denoising_score_matching(x0_hat + offset, x0, sigma, "uniform")
    assert (worse - best).item() == pytest.approx(offset**2, rel=0.05)


def test_eps_weighting_is_the_mean_squared_error_of_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps, x0_hat = torch.randn(3, 4, 2, 3, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 3.0, 20.0], dtype=torch.float64)
    x = diffuse(x0, sigma, eps)
    expected = (eps_from_x0(x0_hat, x, sigma) - eps).square().mean()
    torch.testing.assert_close(denoising_score_matching(x0_hat, x0, sigma, "eps"), expected)


def test_each_sample_has_the_weight_of_its_own_sigma() -> None:
    sigma = torch.tensor([0.5, 2.0])
    loss = denoising_score_matching(torch.ones(2, 3), torch.zeros(2, 3), sigma, "eps")
    assert loss.item() == pytest.approx((4 + 0.25) / 2)


def test_half_precision_predictions_are_compared_in_float32() -> None:
    x0 = torch.full((1, 1), 1.0)
    x0_hat = torch.full((1, 1), 1.0078125, dtype=torch.bfloat16)  # one bf16 ulp above
    loss = denoising_score_matching(x0_hat, x0, torch.ones(1), "uniform")
    assert loss.dtype == torch.float32
    assert loss.item() == 2.0**-14


def test_an_unknown_weighting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="'dmd'; did you mean 'dmd2'"):
        denoising_score_matching(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1), "dmd")


def gaussian(mean: Tensor, std: float) -> GaussianMixtureDenoiser:
    return GaussianMixtureDenoiser(torch.ones(1), mean.detach()[None], std)


@pytest.fixture
def predictions() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    fake, real, x0 = torch.randn(3, 4, 2, 3, generator=generator, dtype=torch.float64)
    return fake, real, x0, torch.tensor([0.1, 1.0, 5.0, 80.0], dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_descent_takes_the_students_mean_to_the_teachers(method: str) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.linspace(-1, 1, 16)
    mean = torch.full((16,), 3.0, requires_grad=True)
    optimizer = torch.optim.SGD([mean], lr=0.2)
    for _ in range(150):
        x0 = mean + 0.5 * torch.randn(32, 16, generator=generator)
        sigma = LogNormal(mean=0.0, std=1.0).sample(32, generator)
        x = diffuse(x0, sigma, torch.randn(32, 16, generator=generator)).detach()
        fake, real = gaussian(mean, 0.5)(x, sigma), gaussian(target, 0.5)(x, sigma)
        gradient = get_student_gradient(method)(fake, real, x0.detach(), sigma)
        optimizer.zero_grad()
        student_loss(x0, gradient).backward()
        optimizer.step()
    torch.testing.assert_close(mean.detach(), target, rtol=0, atol=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_every_sample_descends_along_real_minus_fake(method: str, predictions: tuple) -> None:
    fake, real, _, _ = predictions
    descent = -get_student_gradient(method)(*predictions)
    for step, wanted in zip(descent.flatten(1), (real - fake).flatten(1), strict=True):
        assert torch.cosine_similarity(step, wanted, dim=0).item() == pytest.approx(1.0)


@pytest.mark.parametrize("method", METHODS)
def test_agreeing_scores_give_no_gradient(method: str, predictions: tuple) -> None:
    fake, _, x0, sigma = predictions
    gradient = get_student_gradient(method)(fake, fake, x0, sigma)
    assert torch.equal(gradient, torch.zeros_like(fake))


def test_diff_instruct_is_sigma_squared_times_the_difference_of_scores(predictions: tuple) -> None:
    fake, real, x0, sigma = predictions
    expected = (score(fake, x0, sigma) - score(real, x0, sigma)) * sigma.reshape(4, 1, 1) ** 2
    torch.testing.assert_close(diff_instruct(fake, real, x0, sigma), expected)


def test_dmd_divides_by_each_samples_mean_error_from_the_clean_sample() -> None:
    fake = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    real = torch.tensor([[1.0, 2.0], [1.0, 0.0]])
    x0 = torch.tensor([[2.0, 5.0], [1.5, 0.5]])  # mean errors 2 and 0.5
    gradient = dmd(fake, real, x0, torch.ones(2))
    assert gradient.tolist() == [[1.0, -0.5], [0.0, 2.0]]


def test_dmd_stays_finite_where_the_real_score_returns_the_sample() -> None:
    x0 = torch.ones(1, 2)
    assert torch.isfinite(dmd(x0 + 1, x0, x0, torch.ones(1))).all()


def test_vsd_is_the_noise_variance_times_real_minus_fake_noise(predictions: tuple) -> None:
    fake, real, x0, sigma = predictions
    variance = (sigma**2 / (1 + sigma**2)).reshape(4, 1, 1)  # 1 - alphas_cumprod
    expected = variance * (eps_from_x0(real, x0, sigma) - eps_from_x0(fake, x0, sigma))
    torch.testing.assert_close(vsd(fake, real, x0, sigma), expected)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_predictions_are_subtracted_in_float32(method: str) -> None:
    fake = torch.full((1, 1), 1.0078125, dtype=torch.bfloat16)
    real, x0 = torch.full((1, 1), 1.001), torch.full((1, 1), 2.001)
    gradient = get_student_gradient(method)(fake, real, x0, torch.ones(1))
    assert gradient.dtype == torch.float32
    scale = 0.5 if method == "vsd" else 1.0
    assert gradient.item() == pytest.approx(scale * 0.0068125, rel=1e-4)


def test_the_loss_has_exactly_gradient_over_batch_at_x0() -> None:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(8, 3, generator=generator).requires_grad_()
    gradient = 1e-6 * torch.randn(8, 3, generator=generator)
    student_loss(x0, gradient).backward()
    torch.testing.assert_close(x0.grad, gradient / 8, rtol=1e-6, atol=0)


def test_the_loss_value_is_half_the_mean_squared_gradient() -> None:
    x0 = torch.full((2, 2), 1e3, requires_grad=True)
    assert student_loss(x0, torch.tensor([[1.0, 2.0], [0.0, 3.0]])).item() == 14 / 4


def test_the_loss_does_not_train_the_scores() -> None:
    x0 = torch.ones(2, 2, requires_grad=True)
    gradient = torch.ones(2, 2, requires_grad=True)
    student_loss(x0, 2 * gradient).backward()
    assert gradient.grad is None
    assert torch.equal(x0.grad, torch.ones(2, 2))


def test_a_registered_gradient_is_found_and_its_name_cannot_be_taken_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(STUDENT_GRADIENTS, "mine", raising=False)

    def mine(fake_x0: Tensor, real_x0: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        return fake_x0

    monkeypatch.setitem(STUDENT_GRADIENTS, "mine", mine)
    assert get_student_gradient("mine") is mine
    with pytest.raises(ConfigError, match="'mine' is already registered"):
        register_student_gradient("mine")(mine)
    with pytest.raises(ConfigError, match="'diff-instruct' is already registered"):
        register_student_gradient("diff-instruct")(mine)
    assert get_student_gradient("diff-instruct") is diff_instruct


def test_an_unknown_gradient_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="'diffinstruct'; did you mean 'diff-instruct'"):
        get_student_gradient("diffinstruct")
