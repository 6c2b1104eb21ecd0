"""Denoisers from diffusers: DDPM and DDIM pipelines of images, Stable Diffusion and SDXL."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from disback_plugin.diffusion import (
    Denoiser,
    Description,
    EpsDenoiser,
    LCMDenoiser,
    VDenoiser,
    VPDenoiser,
    X0Denoiser,
    class_ids,
)
from disback_plugin.errors import CheckpointError, ConfigError, DisBackError
from disback_plugin.pretrained.diffusers.files import Repository
from disback_plugin.pretrained.formats import register_format, take_options

# the scheduler's prediction_type -> our wrapper and its name in descriptions
_PREDICTIONS: dict[str, tuple[type[VPDenoiser], str]] = {
    "epsilon": (EpsDenoiser, "eps"),
    "v_prediction": (VDenoiser, "v"),
    "sample": (X0Denoiser, "x0"),
}
_OPTIONS: dict[str, Any] = {
    "variant": None,
    "revision": None,
    "nearest_t": True,  # these models know whole timesteps only
    "lcm": None,  # default: where the scheduler is LCM's
    "lora": None,
    "guidance_scale": 1.0,
    "negative_prompt": None,  # default: the pipeline's own
}
_TEXT_OPTIONS = ("lcm", "lora", "guidance_scale", "negative_prompt")


class ImageUNet(nn.Module):
    """A `UNet2DModel` as a network(x, t, labels); a learned variance in its answer is left out."""

    def __init__(self, unet: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.unet, self.num_classes = unet, num_classes

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """x (B, C, H, W), t (B,), cond ids or one-hot rows -> the prediction (B, C, H, W).

        Raises DisBackError where labels are missing, or given to an unconditional model.
        """
        if cond is not None:
            cond = class_ids(cond, self.num_classes)
        elif self.num_classes:
            raise DisBackError(f"this model needs class labels, 0 to {self.num_classes - 1}")
        return self.unet(x, t, class_labels=cond).sample[:, : x.shape[1]]


@register_format("diffusers")
def open_diffusers(location: str, options: Mapping[str, Any]) -> tuple[Denoiser, Description]:
    """A pipeline folder or hub id; D is not clipped, as a sampler with clip_sample would do."""
    given = take_options(options, "diffusers", _OPTIONS)
    repository = make_repository(location, options)
    unet = repository.unet()
    bars, scheduler = repository.schedule()
    for name in _TEXT_OPTIONS:
        if name in options and type(unet).__name__ == "UNet2DModel":
            raise ConfigError(f"option {name!r} is for text models, {location} has a UNet2DModel")
    wrapper, parametrisation = _prediction(scheduler, given["lcm"], location)
    if type(unet).__name__ == "UNet2DModel":
        network, condition, num_classes = _image_network(unet, location)
    else:
        from disback_plugin.pretrained.diffusers.text_models import make_text_network

        network = make_text_network(
            unet, repository, given["lora"], given["guidance_scale"], given["negative_prompt"]
        )
        condition, num_classes = "text", 0
    denoiser = wrapper(network, bars, given["nearest_t"])
    return denoiser, Description(
        source="diffusers",
        architecture=type(unet).__name__,
        num_parameters=sum(value.numel() for value in unet.parameters()),
        data_shape=_data_shape(unet),
        num_classes=num_classes,
        parametrisation=parametrisation,
        sigma_min=denoiser.sigma_min,
        sigma_max=denoiser.sigma_max,
        condition=condition,
    )


def make_repository(location: str, options: Mapping[str, Any]) -> Repository:
    """The repository that location and options name."""
    given = take_options(options, "diffusers", _OPTIONS)
    return Repository(location=location, variant=given["variant"], revision=given["revision"])


def _image_network(unet: Any, location: str) -> tuple[nn.Module, str, int]:
    config = unet.config
    if config.class_embed_type not in (None, "timestep") or config.time_embedding_type == "fourier":
        raise CheckpointError(
            f"{location}: class_embed_type={config.class_embed_type!r}, time_embedding_type="
            f"{config.time_embedding_type!r} is not supported: labels must be class ids and the "
            "time a timestep"
        )
    num_classes = int(config.num_class_embeds or 0)
    return ImageUNet(unet, num_classes), "class" if num_classes else "none", num_classes


def _data_shape(unet: Any) -> tuple[int, ...]:
    size = unet.config.sample_size
    if size is None:
        raise CheckpointError("the U-Net's config has no sample_size: its resolution is unknown")
    height, width = (size, size) if isinstance(size, int) else size
    return unet.config.in_channels, height, width


def _prediction(
    scheduler: Mapping[str, Any], lcm: bool | None, location: str
) -> tuple[type[VPDenoiser], str]:
    kind = scheduler.get("prediction_type", "epsilon")
    if lcm is None:
        lcm = scheduler.get("_class_name") == "LCMScheduler"
    if kind not in _PREDICTIONS or (lcm and kind != "epsilon"):
        raise CheckpointError(
            f"{location}: prediction_type {kind!r}{' of an LCM' if lcm else ''} is not supported; "
            f"known: {', '.join(_PREDICTIONS)}, of an LCM epsilon"
        )
    return (LCMDenoiser, "lcm") if lcm else _PREDICTIONS[kind]
