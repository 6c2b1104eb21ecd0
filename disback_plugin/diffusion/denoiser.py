"""The one interface to every diffusion model, D(x, sigma, cond) -> x0, and the one-step student."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from disback_plugin.diffusion.condition import Condition
from disback_plugin.diffusion.conversions import per_sample, working_dtype
from disback_plugin.errors import ConfigError, DisBackError, count


class Denoiser(nn.Module, ABC):
    """D(x, sigma, cond) ~ E[x0 | x], with x = x0 + sigma eps; a subclass writes `denoise` only.

    Arithmetic runs in float32 or wider, also under autocast; the result has the dtype of x.
    `description` says what was found, where the denoiser came from a checkpoint.
    """

    sigma_min: float
    sigma_max: float
    description: "Description | None" = None

    def forward(self, x: Tensor, sigma: Tensor, labels: Condition | None = None) -> Tensor:
        """x (B, *data) floating, sigma (B,) -> x0 (B, *data).

        labels: ids (B,) int64, encoded prompts for a text model, or None. Raises DisBackError
        where x is not floating or sigma is not (B,).
        """
        check_inputs(x, sigma)
        dtype = working_dtype(x)
        return self.denoise(x.to(dtype), sigma.to(dtype), labels).to(x.dtype)

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        """As `forward`, with x and sigma already in the working dtype and of checked shape.

        cond is what `forward` was given: a subclass says which condition it takes.
        """


def check_inputs(x: Tensor, sigma: Tensor) -> None:
    """What every denoiser asks of x (B, *data) and sigma (B,); else DisBackError."""
    if not x.is_floating_point():
        raise DisBackError(f"x must be a floating-point tensor, but it is {x.dtype}")
    per_sample(sigma, x)


class OneStepStudent(nn.Module):
    """G(z) = D(scale z, sigma, cond), the generator that starts as its teacher.

    sigma is the level at which the denoiser is asked: 80 for EDM; `denoiser.sigma_max`, that is
    t = 999, for DDPM. scale: of its input noise; sigma unless given. Raises ConfigError for a sigma
    that the denoiser does not know.
    """

    def __init__(self, denoiser: Denoiser, sigma: float, scale: float | None = None) -> None:
        super().__init__()
        if not denoiser.sigma_min <= sigma <= denoiser.sigma_max:
            raise ConfigError(
                f"the student's sigma is {sigma}, outside its denoiser's range "
                f"[{denoiser.sigma_min:.6g}, {denoiser.sigma_max:.6g}]"
            )
        self.denoiser = denoiser
        self.sigma = float(sigma)
        self.scale = self.sigma if scale is None else float(scale)

    def forward(self, z: Tensor, cond: Condition | None = None) -> Tensor:
        """Latent z (B, *data), standard normal, and cond of B or None -> x0 (B, *data)."""
        return self.denoiser(self.scale * z, z.new_full((z.shape[0],), self.sigma), cond)


@dataclass(frozen=True, kw_only=True)
class Description:
    """A loaded model, as `load_denoiser` reports it.

    source: the spec's kind, e.g. `edm-pkl`. data_shape: of one sample, (C, H, W). num_classes: 0
    if the model takes no labels. parametrisation: `edm`, `vp`, `ve`, `iddpm`, `eps`, `v`, `x0`,
    `flow` or `consistency`. condition: `none`, `class` or `text`. role: which of a run's networks
    it is, with which weights, where the source has several.
    """

    source: str
    architecture: str
    num_parameters: int
    data_shape: tuple[int, ...]
    num_classes: int
    parametrisation: str
    sigma_min: float
    sigma_max: float
    condition: str = "none"
    role: str = ""

    @classmethod
    def of(
        cls,
        denoiser: Denoiser,
        *,
        source: str,
        architecture: str,
        data_shape: tuple[int, ...],
        num_classes: int,
        parametrisation: str,
        text: bool = False,
    ) -> "Description":
        """What a denoiser is; it knows its range and its parameters (buffers are not counted)."""
        return cls(
            source=source,
            architecture=architecture,
            num_parameters=sum(parameter.numel() for parameter in denoiser.parameters()),
            data_shape=data_shape,
            num_classes=num_classes,
            parametrisation=parametrisation,
            sigma_min=denoiser.sigma_min,
            sigma_max=denoiser.sigma_max,
            condition="text" if text else "class" if num_classes else "none",
        )

    def __str__(self) -> str:
        shape = "x".join(str(size) for size in self.data_shape)
        given = {
            "class": count(self.num_classes, "class", "classes"),
            "text": "text",
            "none": "unconditional",
        }
        name = ": ".join(filter(None, (self.source, self.role, self.architecture)))
        return (
            f"{name}, {self.num_parameters / 1e6:.3g} M parameters, "
            f"{shape}, {given[self.condition]}, {self.parametrisation} parametrisation, "
            f"sigma {self.sigma_min:.4g} to {self.sigma_max:.4g}"
        )
