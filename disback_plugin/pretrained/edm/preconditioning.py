"""EDM's four preconditionings (Karras et al. 2022, Table 1) around its U-Nets."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from disback_plugin.diffusion.condition import Condition, TextCondition, one_hot_labels
from disback_plugin.diffusion.conversions import per_sample, working_dtype
from disback_plugin.diffusion.denoiser import Denoiser, check_inputs
from disback_plugin.diffusion.preconditioned import Scalings
from disback_plugin.errors import DisBackError
from disback_plugin.pretrained.edm.layers import ExactBuffers
from disback_plugin.pretrained.edm.unet import Positive, Precision, Sigma, Timesteps, UNet


class Precond(Denoiser):
    """D(x) = c_skip x + c_out F(c_in x, c_noise, labels); a subclass writes `scalings` only.

    Arithmetic is in the dtype of the weights, at least float32; a float64 x is rounded to float32
    as in NVlabs/edm. precision: what F computes in from float32 weights, `fp16` (on a GPU; on a
    CPU float32, as NVlabs/edm does) or `bf16` (everywhere). sigma_data: the std of the data.
    """

    parametrisation: ClassVar[str]
    sigma_data: float = 0.5
    precision: Precision = None

    def __init__(self, model: UNet, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        self.model = model
        self.img_resolution, self.img_channels = model.img_resolution, model.in_channels
        self.label_dim = model.label_dim
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    @abstractmethod
    def scalings(self, sigma: Tensor) -> Scalings:
        """The scalings at sigma (B,), in sigma's dtype."""

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """The nearest noise level that the model was trained at; here sigma itself."""
        return sigma

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        labels: Condition | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """x (B, C, H, W) floating, sigma (B,) -> x0 (B, C, H, W) in x's dtype.

        labels: ids (B,), rows (B, label_dim) or None, which is "no class". augment_labels
        (B, augment_dim): what augmentation did to x; None is "nothing". Raises DisBackError.
        """
        check_inputs(x, sigma)
        return self.denoise(x, sigma, labels, augment_labels).to(x.dtype)

    def denoise(
        self, x: Tensor, sigma: Tensor, cond: Condition | None, augment_labels: Tensor | None = None
    ) -> Tensor:
        """Scale, call the network in its precision, scale back."""
        weight = next(self.model.parameters())
        dtype = working_dtype(weight)
        x, scale = x.to(dtype), self.scalings(sigma.to(dtype))
        scaled = (per_sample(scale.c_in, x) * x).to(self._network_dtype(x, weight))
        if augment_labels is not None:
            augment_labels = augment_labels.to(dtype)
        out = self.model(scaled, scale.c_noise, self._rows(cond, x), augment_labels)
        out = out[:, : self.img_channels].to(dtype)  # iDDPM's networks predict a variance too
        return per_sample(scale.c_skip, x) * x + per_sample(scale.c_out, x) * out

    def _network_dtype(self, x: Tensor, weight: Tensor) -> torch.dtype:
        if self.precision == "bf16":
            return torch.bfloat16
        return torch.float16 if self.precision == "fp16" and x.is_cuda else weight.dtype

    def _rows(self, labels: Condition | None, like: Tensor) -> Tensor | None:
        """One-hot rows; None for a model without classes, to which rows of none may be given."""
        if isinstance(labels, TextCondition):
            raise DisBackError("EDM networks take class labels, but encoded prompts were given")
        if not self.label_dim and (labels is None or labels.shape[1:] == (0,)):
            return None
        return one_hot_labels(labels, self.label_dim, like.shape[0], like)


class VPPrecond(Precond):
    """Variance preserving, eps-prediction: beta(t) = beta_d t + beta_min, t from epsilon_t to 1."""

    parametrisation = "vp"

    def __init__(
        self,
        model: UNet,
        beta_d: Positive = 19.9,
        beta_min: Positive = 0.1,
        M: Timesteps = 1000,  # noqa: N803 - the checkpoints' name
        epsilon_t: Positive = 1e-5,
    ) -> None:
        self.beta_d, self.beta_min, self.M, self.epsilon_t = beta_d, beta_min, M, epsilon_t
        # float32 rounds the lower end by 2 %; the published samplers start from these numbers
        low, high = self.sigma(torch.tensor([epsilon_t, 1], device="cpu")).tolist()
        super().__init__(model, low, high)

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_noise = (M - 1) t(sigma)."""
        c_in = 1 / (sigma**2 + 1).sqrt()
        return Scalings(torch.ones_like(sigma), -sigma, c_in, (self.M - 1) * self.sigma_inv(sigma))

    def sigma(self, t: Tensor) -> Tensor:
        """The noise level at time t."""
        growth = t**2 * (0.5 * self.beta_d) + t * self.beta_min  # the integral of beta
        return (growth.exp() - 1).sqrt()

    def sigma_inv(self, sigma: Tensor) -> Tensor:
        """The time t at a noise level."""
        growth = (sigma**2 + 1).log()
        root = (growth * (2 * self.beta_d) + self.beta_min**2).sqrt()
        return (root - self.beta_min) / self.beta_d


class VEPrecond(Precond):
    """Variance exploding: the network predicts -eps and is told ln(sigma / 2)."""

    parametrisation = "ve"

    def __init__(
        self,
        model: UNet,
        sigma_min: Sigma = 0.02,
        sigma_max: Sigma = 100,
    ) -> None:
        super().__init__(model, sigma_min, sigma_max)

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_noise = ln(sigma / 2)."""
        one = torch.ones_like(sigma)
        return Scalings(one, sigma, one, (0.5 * sigma).log())


class iDDPMPrecond(ExactBuffers, Precond):  # noqa: N801 - the checkpoints' name
    """Improved DDPM's cosine schedule (Nichol and Dhariwal 2021): eps-prediction, discrete levels.

    `u` (M + 1,) are the noise levels from the highest to 0; the network is told the index of the
    nearest from the other end.
    """

    parametrisation = "iddpm"
    u: Tensor

    def __init__(
        self,
        model: UNet,
        C_1: Positive = 0.001,  # noqa: N803 - the checkpoints' name
        C_2: Positive = 0.008,  # noqa: N803
        M: Timesteps = 1000,  # noqa: N803
    ) -> None:
        u = _cosine_levels(C_1, C_2, M)
        super().__init__(model, float(u[M - 1]), float(u[0]))
        self.C_1, self.C_2, self.M = C_1, C_2, M
        self.register_buffer("u", u)

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_noise = M - 1 - index."""
        c_in = 1 / (sigma**2 + 1).sqrt()
        c_noise = (self.M - 1 - self._index(sigma)).to(sigma.dtype)
        return Scalings(torch.ones_like(sigma), -sigma, c_in, c_noise)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """The nearest of the model's levels, for sigma of any shape."""
        return self.u[self._index(sigma.flatten())].reshape(sigma.shape).to(sigma)

    def _index(self, sigma: Tensor) -> Tensor:
        """Of the level nearest to each sigma (B,)."""
        # cdist, as NVlabs/edm: halfway between two levels its rounding decides
        apart = torch.cdist(sigma.to(self.u)[:, None], self.u[:, None])
        return apart.argmin(1)


def _cosine_levels(c_1: float, c_2: float, num: int) -> Tensor:
    """sigma (num + 1,), highest first, last 0; 1 / (1 + sigma^2) goes as sin^2, steps above c_1."""
    steps = torch.arange(num + 1, device="cpu")
    alpha_bar = (0.5 * torch.pi * steps / num / (c_2 + 1)).sin() ** 2
    ratios = (alpha_bar[:-1] / alpha_bar[1:]).clip(min=c_1)
    levels = [torch.zeros((), device="cpu")]
    for ratio in ratios.flip(0):
        levels.append(((levels[-1] ** 2 + 1) / ratio - 1).sqrt())
    return torch.stack(levels[::-1])


class EDMPrecond(Precond):
    """EDM's own: unit variance in and out of the network at every sigma (Eq. 7, Appendix B.6)."""

    parametrisation = "edm"

    def __init__(
        self,
        model: UNet,
        sigma_min: Sigma = 0,
        sigma_max: Sigma = float("inf"),
        sigma_data: Positive = 0.5,
    ) -> None:
        super().__init__(model, sigma_min, sigma_max)
        self.sigma_data = sigma_data

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_noise = ln(sigma) / 4."""
        total = sigma**2 + self.sigma_data**2
        return Scalings(
            c_skip=self.sigma_data**2 / total,
            c_out=sigma * self.sigma_data / total.sqrt(),
            c_in=1 / total.sqrt(),
            c_noise=sigma.log() / 4,
        )
