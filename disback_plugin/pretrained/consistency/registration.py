"""`cm:FILE`: OpenAI's consistency models and EDM teachers, and diffusers' folders of them."""

from collections.abc import Mapping
from typing import Any

from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.pretrained.consistency import facts, open_checkpoint
from disback_plugin.pretrained.formats import register_format, take_options

OPTIONS = {"num_head_channels": None, "resolution": None, "parametrisation": None}


@register_format("cm")
def open_cm(location: str, options: Mapping[str, Any]) -> tuple[Denoiser, Description]:
    """A `.pt` file of OpenAI's, or a folder of diffusers' ConsistencyModelPipeline."""
    chosen = take_options(options, "cm", OPTIONS)
    denoiser = open_checkpoint(
        location,
        num_head_channels=chosen["num_head_channels"],
        resolution=chosen["resolution"],
        parametrisation=chosen["parametrisation"],
    )
    found = facts(denoiser)
    return denoiser, Description(
        source="cm",
        architecture=found.architecture,
        num_parameters=found.num_parameters,
        data_shape=found.data_shape,
        num_classes=found.num_classes,
        parametrisation=found.parametrisation,
        sigma_min=denoiser.sigma_min,
        sigma_max=denoiser.sigma_max,
        condition="class" if found.num_classes else "none",
    )
