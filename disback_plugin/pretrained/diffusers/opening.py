"""Denoisers from diffusers: DDPM, DDIM, Stable Diffusion, SDXL; SD3, Flux, Qwen-Image, Wan."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from disback_plugin.diffusion import (
    Denoiser,
    Description,
    EpsDenoiser,
    FlowDenoiser,
    GuidedNetwork,
    LCMDenoiser,
    VDenoiser,
    VPDenoiser,
    X0Denoiser,
)
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.diffusers.files import OPTIONS, TYPES, Repository, make_repository
from disback_plugin.pretrained.diffusers.latent_decoder import open_decoder
from disback_plugin.pretrained.diffusers.settings import read_flow
from disback_plugin.pretrained.diffusers.text_encoder import open_text_encoder
from disback_plugin.pretrained.diffusers.text_parts import FLOWS as TEXT_FAMILIES
from disback_plugin.pretrained.formats import register_format, take_options
from disback_plugin.pretrained.image_unet import ImageUNet

# the scheduler's prediction_type -> our wrapper and its name in descriptions
_PREDICTIONS: dict[str, tuple[type[VPDenoiser], str]] = {
    "epsilon": (EpsDenoiser, "eps"),
    "v_prediction": (VDenoiser, "v"),
    "sample": (X0Denoiser, "x0"),
}
_TEXT_OPTIONS = ("lcm", "lora", "guidance_scale", "negative_prompt", "text_dtype")
_FLOW_OPTIONS = ("sample_size", "max_sequence_length", "embedded_guidance")


@register_format("diffusers", text_encoder=open_text_encoder, decoder=open_decoder)
def open_diffusers(location: str, options: Mapping[str, Any]) -> Denoiser:
    """A pipeline folder or hub id; D is not clipped, as a sampler with clip_sample would do."""
    given = take_options(options, "diffusers", OPTIONS, TYPES)
    repository = make_repository(location, options)
    if (kind := repository.transformer()) is not None:
        return _open_flow(repository, kind, options, given)
    for name in _FLOW_OPTIONS:
        if name in options:
            raise ConfigError(f"option {name!r} is for transformers, {location} has a U-Net")
    unet = repository.unet()
    bars, scheduler = repository.schedule()
    of_text = type(unet).__name__ == "UNet2DConditionModel"
    for name in _TEXT_OPTIONS:
        if name in options and not of_text:
            raise ConfigError(f"option {name!r} is for text models, {location} has a UNet2DModel")
    wrapper, parametrisation = _prediction(scheduler, given["lcm"], location)
    network: nn.Module
    if of_text:
        from disback_plugin.pretrained.diffusers.text_models import make_text_network

        network = make_text_network(unet, location, given["lora"])
        network = _guided(network, location, options, given)
    else:
        network = _image_network(unet, location)
    try:
        denoiser = wrapper(network, bars, given["nearest_t"])
    except ConfigError as error:
        raise CheckpointError(f"the scheduler of {location}: {error}") from None
    denoiser.description = Description.of(
        denoiser,
        source="diffusers",
        architecture=type(unet).__name__,
        data_shape=_data_shape(unet, location),
        num_classes=network.num_classes if isinstance(network, ImageUNet) else 0,
        parametrisation=parametrisation,
        text=of_text,
    )
    return denoiser


def _open_flow(
    repository: Repository, kind: str, options: Mapping[str, Any], given: Mapping[str, Any]
) -> Denoiser:
    """A rectified flow's transformer, asked at every t."""
    from disback_plugin.pretrained.diffusers.flow_models import (
        FLOWS,
        flow_data_shape,
        make_flow_network,
    )

    for name in ("lcm", "lora", "nearest_t"):
        if name in options:
            raise ConfigError(f"option {name!r} is for U-Nets, {repository.location} has none")
    index = repository.read_json("model_index.json") or {}
    if index.get("transformer_2") not in (None, [None, None]):
        raise CheckpointError(
            f"{repository.location} has two transformers, one for high noise and one for low (as "
            "Wan 2.2): a teacher that is one network is needed"
        )
    if kind in TEXT_FAMILIES:
        TEXT_FAMILIES[kind].check(index, repository.location)
        TEXT_FAMILIES[kind].prompt_length(given["max_sequence_length"])
    transformer = repository.unet(FLOWS, "transformer")
    number, shift = read_flow(*repository.scheduler())
    network = make_flow_network(transformer, repository.location, given["embedded_guidance"])
    shape = flow_data_shape(network, given["sample_size"], repository.location)
    guided = _guided(network, repository.location, options, given)
    denoiser = FlowDenoiser(guided, shift, number)
    denoiser.description = Description.of(
        denoiser,
        source="diffusers",
        architecture=type(transformer).__name__,
        data_shape=shape,
        num_classes=0,
        parametrisation="flow",
        text=True,
    )
    return denoiser


def _guided(
    network: nn.Module, location: str, options: Mapping[str, Any], given: Mapping[str, Any]
) -> nn.Module:
    """The network pushed away from its negative prompt, which is encoded here, if at all."""
    if given["guidance_scale"] == 1:
        return network
    negative = open_text_encoder(location, options).negative(given["negative_prompt"])
    return GuidedNetwork(network, negative, given["guidance_scale"])


def _image_network(unet: Any, location: str) -> ImageUNet:
    config = unet.config
    if config.class_embed_type not in (None, "timestep") or config.time_embedding_type == "fourier":
        raise CheckpointError(
            f"{location}: class_embed_type={config.class_embed_type!r}, time_embedding_type="
            f"{config.time_embedding_type!r} is not supported: labels must be class ids and the "
            "time a timestep"
        )
    takes, makes = config.in_channels, config.out_channels
    if makes not in (takes, 2 * takes):  # with a learned variance
        raise CheckpointError(
            f"{location}: the U-Net takes {takes} channels and makes {makes}: it needs something "
            "besides the image, or answers something else"
        )
    return ImageUNet(unet)


def _data_shape(unet: Any, location: str) -> tuple[int, ...]:
    size = unet.config.sample_size
    if size is None:
        raise CheckpointError(
            f"{location}: the U-Net's config has no sample_size: its resolution is unknown"
        )
    match [size, size] if isinstance(size, int) else list(size):
        case [int(height), int(width)] if min(height, width) > 0:
            return unet.config.in_channels, height, width
    raise CheckpointError(f"{location}: the U-Net has sample_size {size!r}, no size of an image")


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
    scale = scheduler.get("timestep_scaling", LCMDenoiser.timestep_scaling)
    if lcm and scale != LCMDenoiser.timestep_scaling:
        raise CheckpointError(
            f"{location}: an LCM with timestep_scaling {scale!r} is not supported"
        )
    return (LCMDenoiser, "lcm") if lcm else _PREDICTIONS[kind]
