"""`cm:FILE`: OpenAI's models, and diffusers' ConsistencyModelPipeline, read and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disback_plugin.aside import built_aside
from disback_plugin.diffusion import (
    ConsistencyDenoiser,
    Denoiser,
    Description,
    PreconditionedDenoiser,
)
from disback_plugin.errors import CheckpointError, ConfigError, DisBackError
from disback_plugin.pretrained.consistency.architecture import infer_architecture
from disback_plugin.pretrained.consistency.checkpoint import read_openai_checkpoint
from disback_plugin.pretrained.consistency.denoiser import make_denoiser
from disback_plugin.pretrained.consistency.unet import build_unet, import_diffusers
from disback_plugin.pretrained.detection import HUB_NAME
from disback_plugin.pretrained.formats import register_format, take_options
from disback_plugin.pretrained.image_unet import ImageUNet

PREFIXES = {"cd_": "consistency", "ct_": "consistency", "edm_": "edm"}
PARTS = {"unet": "UNet2DModel", "scheduler": "CMStochasticIterativeScheduler"}
OPTIONS = {"num_head_channels": None, "resolution": None, "parametrisation": None}
TYPES = {"num_head_channels": int, "resolution": int, "parametrisation": str}


@register_format("cm")
def open_cm(location: str, options: Mapping[str, Any]) -> Denoiser:
    """A `.pt` file of OpenAI's, or a folder of diffusers' ConsistencyModelPipeline."""
    return open_checkpoint(location, **take_options(options, "cm", OPTIONS, TYPES))


def open_checkpoint(
    source: str | Path,
    num_head_channels: int | None = None,
    resolution: int | None = None,
    parametrisation: str | None = None,
) -> PreconditionedDenoiser:
    """A consistency model, or an EDM teacher trained in OpenAI's code, as a denoiser.

    source: OpenAI's `.pt`, a folder of diffusers' ConsistencyModelPipeline, or such a repository's
    name on the hub. The options say what a `.pt` leaves open; unless given, heads and resolution
    are the released models', and the parametrisation is told by the file's name. Raises
    CheckpointError naming what does not fit, ConfigError for an option that is needed or does not
    apply.
    """
    path = Path(source)
    on_hub = HUB_NAME.fullmatch(str(source)) and path.suffix not in (".pt", ".pth")
    if not path.is_dir() and (path.exists() or not on_hub):
        tensors = read_openai_checkpoint(path)
        kind = _parametrisation(path, parametrisation)
        try:
            architecture = infer_architecture(tensors, num_head_channels, resolution)
            return make_denoiser(build_unet(tensors, architecture), kind)
        except DisBackError as error:
            raise type(error)(f"{path}: {error}") from None
    given = zip(OPTIONS, (num_head_channels, resolution, parametrisation), strict=True)
    for name, value in given:
        if value is not None:
            raise ConfigError(f"{source}: {name} is for OpenAI's .pt files; a pipeline has its own")
    return load_pipeline(path if path.is_dir() else str(source))


def convert_checkpoint(
    file: Path,
    folder: Path,
    num_head_channels: int | None = None,
    resolution: int | None = None,
    force: bool = False,
) -> Description:
    """Write OpenAI's `cd_*.pt` or `ct_*.pt` as a folder of diffusers; returns what it held."""
    kind = "edm" if file.name.startswith("edm_") else "consistency"
    denoiser = open_checkpoint(file, num_head_channels, resolution, kind)
    found = denoiser.description
    assert found is not None
    trained = file.name.startswith("ct_")  # counts the scales of its last stage, one more than N
    num_timesteps = 40 if not trained else 201 if found.data_shape[1] <= 64 else 151
    save_pipeline(denoiser, folder, num_timesteps, force)
    return found


def _parametrisation(file: Path, given: str | None) -> str:
    if given is not None:
        return given
    for prefix, kind in PREFIXES.items():
        if file.name.startswith(prefix):
            return kind
    raise ConfigError(
        f"{file}: the name does not say what the model is (cd_ and ct_ are consistency models, "
        "edm_ teachers); give parametrisation, consistency or edm"
    )


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
