"""Folders of diffusers' ConsistencyModelPipeline: written for it, and read from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disback_plugin.aside import built_aside
from disback_plugin.diffusion import ConsistencyDenoiser, PreconditionedDenoiser
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.consistency.denoiser import make_denoiser
from disback_plugin.pretrained.consistency.unet import import_diffusers
from disback_plugin.pretrained.image_unet import ImageUNet

PARTS = {"unet": "UNet2DModel", "scheduler": "CMStochasticIterativeScheduler"}


def save_pipeline(
    denoiser: PreconditionedDenoiser, folder: Path, num_timesteps: int = 40, force: bool = False
) -> None:
    """Write a folder that `ConsistencyModelPipeline.from_pretrained` opens.

    num_timesteps is the length of the scale on which its multistep sampling counts: 40 for
    distilled models, 201 and 151 for trained ones (ImageNet-64, LSUN-256). One step does not
    depend on it. Raises ConfigError for a teacher with EDM's scalings, which that pipeline cannot
    express, and for a folder that holds files: `force` replaces those of a pipeline, at the end.
    """
    network = denoiser.network
    if not isinstance(denoiser, ConsistencyDenoiser) or not isinstance(network, ImageUNet):
        raise ConfigError(
            "ConsistencyModelPipeline takes consistency models only; open an EDM teacher from its "
            ".pt file, as cm:FILE"
        )
    diffusers = import_diffusers()
    scheduler = diffusers.CMStochasticIterativeScheduler(
        num_train_timesteps=num_timesteps,
        sigma_min=denoiser.sigma_min,
        sigma_max=denoiser.sigma_max,
        sigma_data=denoiser.sigma_data,
    )
    pipeline = diffusers.ConsistencyModelPipeline(unet=network.unet, scheduler=scheduler)
    with built_aside(folder, force) as build:
        pipeline.save_pretrained(build, safe_serialization=True)


def load_pipeline(source: str | Path) -> PreconditionedDenoiser:
    """The denoiser of a ConsistencyModelPipeline: a folder, or a repository's name on the hub.

    Weights come from safetensors only and load strictly, as float32. Raises CheckpointError for
    another pipeline and for one with missing, damaged or superfluous weights.
    """
    if isinstance(source, Path) and not (source / "model_index.json").is_file():
        raise CheckpointError(f"{source} is no folder of a diffusers pipeline: no model_index.json")
    import_diffusers()
    from disback_plugin.pretrained.diffusers.files import Repository
    from disback_plugin.pretrained.diffusers.settings import consistency_levels

    repository = Repository(location=str(source))
    _check_parts(repository.read_json("model_index.json") or {}, source)
    unet = repository.unet((PARTS["unet"],))
    for weight in unet.parameters():  # diffusers maps the file, which could change or be cut
        weight.data = weight.data.clone()
    sigma_data, sigma_min, sigma_max = consistency_levels(*repository.scheduler())
    return make_denoiser(unet, "consistency", sigma_data, sigma_min, sigma_max)


def _check_parts(index: Mapping[str, Any], source: str | Path) -> None:
    name = index.get("_class_name")
    if name != "ConsistencyModelPipeline":
        raise CheckpointError(f"{source} holds a {name}, not a ConsistencyModelPipeline")
    for part, kind in PARTS.items():
        if index.get(part) != ["diffusers", kind]:
            raise CheckpointError(f"{source}: its {part} is {index.get(part)}, not a {kind}")
