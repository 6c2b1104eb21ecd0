"""`cm:FILE`: OpenAI's consistency models and EDM teachers, and diffusers' folders of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disback_plugin.diffusion import Denoiser, Description, PreconditionedDenoiser
from disback_plugin.errors import ConfigError, DisBackError
from disback_plugin.pretrained.consistency.architecture import infer_architecture
from disback_plugin.pretrained.consistency.checkpoint import read_openai_checkpoint
from disback_plugin.pretrained.consistency.denoiser import make_denoiser
from disback_plugin.pretrained.consistency.pipeline import load_pipeline, save_pipeline
from disback_plugin.pretrained.consistency.unet import build_unet
from disback_plugin.pretrained.detection import HUB_NAME
from disback_plugin.pretrained.formats import register_format, take_options

PREFIXES = {"cd_": "consistency", "ct_": "consistency", "edm_": "edm"}
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
    for name, value in (
        ("num_head_channels", num_head_channels),
        ("resolution", resolution),
        ("parametrisation", parametrisation),
    ):
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
