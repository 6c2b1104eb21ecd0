"""What was found in a checkpoint, in words and numbers."""

from dataclasses import dataclass

from disback_plugin.errors import count


@dataclass(frozen=True, kw_only=True)
class Description:
    """A loaded model, as `load_denoiser` reports it.

    source: the spec's kind, e.g. `edm-pkl`. data_shape: of one sample, (C, H, W). num_classes: 0
    if the model takes no labels. parametrisation: `edm`, `vp`, `ve`, `iddpm`, `eps`, `v`, `x0` or
    `consistency`. condition: `none`, `class` or `text`. role: which of a run's networks it is, with
    which weights, where the source has several.
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
