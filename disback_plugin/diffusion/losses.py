"""What is trained: a score by denoising score matching, the student by the scores' difference.

The student's gradients at x0 (Eq. 6; Eq. 8 where the real score is a node) are known by name. All
are a positive multiple, per sample, of D_fake - D_real. Gradient DESCENT therefore moves x0 along
D_real - D_fake, towards the real score's distribution. The same in other forms:
s_fake - s_real = (D_fake - D_real) / sigma^2, eps_real - eps_fake = (D_fake - D_real) / sigma.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from disback_plugin.config_base import nearest
from disback_plugin.diffusion.conversions import per_sample, working_dtype
from disback_plugin.errors import ConfigError

Weighting = Callable[[Tensor, float], Tensor]
StudentGradient = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# weight of |x0_hat - x0|^2 at (sigma, sigma_data); Eq. 5 itself is 1/sigma^4, useless in practice
WEIGHTINGS: dict[str, Weighting] = {
    "edm": lambda sigma, data: (sigma**2 + data**2) / (sigma * data) ** 2,
    "eps": lambda sigma, data: sigma**-2,
    "dmd2": lambda sigma, data: sigma**-2 + data**-2,
    "uniform": lambda sigma, data: sigma**0,
}


def denoising_score_matching(
    x0_hat: Tensor, x0: Tensor, sigma: Tensor, weighting: str = "edm", sigma_data: float = 0.5
) -> Tensor:
    """Eq. 5 / Eq. 7 on x0 predictions: mean over batch and data of weight(sigma) (x0_hat - x0)^2.

    x0_hat, x0 (B, *data), sigma (B,) -> scalar in float32 or wider. `eps` equals the mean squared
    error of eps-prediction. Raises ConfigError for an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        hint = nearest(weighting, list(WEIGHTINGS))
        raise ConfigError(f"unknown loss weighting {weighting!r}; {hint}")
    dtype = working_dtype(x0_hat)
    weight = WEIGHTINGS[weighting](per_sample(sigma, x0_hat).to(dtype), sigma_data)
    return (weight * (x0_hat.to(dtype) - x0.to(dtype)).square()).mean()


STUDENT_GRADIENTS: dict[str, StudentGradient] = {}


def register_student_gradient(name: str) -> Callable[[StudentGradient], StudentGradient]:
    """Decorator: makes a (fake_x0, real_x0, x0, sigma) -> gradient function known by `name`.

    Raises ConfigError where the name is taken.
    """

    def add(function: StudentGradient) -> StudentGradient:
        if name in STUDENT_GRADIENTS:
            raise ConfigError(f"the student gradient {name!r} is already registered; rename yours")
        STUDENT_GRADIENTS[name] = function
        return function

    return add


def get_student_gradient(name: str) -> StudentGradient:
    """The registered function; raises ConfigError naming the nearest valid name."""
    if name not in STUDENT_GRADIENTS:
        hint = nearest(name, list(STUDENT_GRADIENTS))
        raise ConfigError(f"unknown student gradient {name!r}; {hint}")
    return STUDENT_GRADIENTS[name]


@register_student_gradient("diff-instruct")
def diff_instruct(fake_x0: Tensor, real_x0: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """D_fake - D_real: Eq. 6 with w(t) = sigma^2 (Luo et al. 2023). All (B, *data), sigma (B,)."""
    return _difference(fake_x0, real_x0)


@register_student_gradient("dmd")
def dmd(fake_x0: Tensor, real_x0: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """(D_fake - D_real) / mean|x0 - D_real|, mean over each sample's data (Yin et al. 2024, Eq. 8).

    x0 is the student's clean sample. The floor keeps a sample which the real score returns
    unchanged from dividing by zero.
    """
    dtype = working_dtype(fake_x0)
    error = (x0.to(dtype) - real_x0.to(dtype)).abs().flatten(1).mean(1)
    return _difference(fake_x0, real_x0) / per_sample(error.clamp_min(1e-6), fake_x0)


@register_student_gradient("vsd")
def vsd(fake_x0: Tensor, real_x0: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """sigma_t^2 (eps_real - eps_fake), variational score distillation (Wang et al. 2023).

    sigma_t is the std of the noise in the variance-preserving scale, sigma_t^2 = 1 - ab =
    sigma^2 / (1 + sigma^2), so the weight of D_fake - D_real is sigma / (1 + sigma^2). Published
    VSD code writes eps_pretrained - eps_lora and descends: the same sign.
    """
    spread = per_sample(sigma, fake_x0).to(working_dtype(fake_x0))
    return spread / (1 + spread**2) * _difference(fake_x0, real_x0)


def student_loss(x0: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose gradient at x0 is exactly gradient / B: sum over data, mean over the batch.

    Its value is 0.5 |gradient|^2 / B, so that a logged loss means something: how strongly fake and
    real score disagree. The gradient is detached.
    """
    gradient = gradient.detach()
    batch = x0.shape[0]
    pull = (x0 * gradient).sum() / batch
    return gradient.square().sum() / (2 * batch) + (pull - pull.detach())


def _difference(fake_x0: Tensor, real_x0: Tensor) -> Tensor:
    """In float32 or wider: near the end the two agree to more digits than bf16 has."""
    dtype = torch.promote_types(working_dtype(fake_x0), real_x0.dtype)
    return fake_x0.to(dtype) - real_x0.to(dtype)
