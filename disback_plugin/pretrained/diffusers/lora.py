"""A LoRA's products added to a U-Net's weights, at the scale that its file says."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from peft.utils import get_peft_model_state_dict
from pydantic import ConfigDict, Field
from torch import Tensor

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.files import read_tensors
from disback_plugin.foreign_weights import first_bytes, translated
from disback_plugin.reading import cut, local_path, shown
from disback_plugin.shards import read_json

USUAL, PEFT_FILE, PEFT_CONFIG = (
    "pytorch_lora_weights.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
)
HEADER, PEFT_PREFIX = "lora_adapter_metadata", "base_model.model."
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class _Adapter(StrictModel):
    """What peft's LoraConfig says of the scale and form of what is added."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    r: int = Field(ge=1)
    lora_alpha: float
    rank_pattern: dict[str, int] = Field(default={})
    alpha_pattern: dict[str, float] = Field(default={})
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False


# of training, or of which modules there are, which the tensors themselves tell
_HARMLESS = {
    *("task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("lora_dropout", "megatron_core", "qalora_group_size", "runtime_config", "peft_version"),
}
# how training began: peft would change the base weights for others, as it did then
_ONLY = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}
_SCALES = re.compile("alpha|rank|scal|lora|dora", re.IGNORECASE)
_NOTES = ("ss_", "sshs_", "modelspec.")  # kohya's and Stability's: the scale is in their tensors


def fuse_lora(unet: Any, lora: str) -> None:
    """Add a LoRA's products to the U-Net's weights, such as the LCM-LoRA's.

    lora: a safetensors file as diffusers, peft or kohya's scripts write it, its folder or hub id.
    Raises CheckpointError for what does not load, for a tensor that finds no place, and for a
    setting in its header that could change the scale and is not understood.
    """
    file = _file(lora)
    tensors, header = read_tensors(file, CheckpointError)
    if not tensors:
        raise CheckpointError(f"the LoRA {file} holds no tensors")
    if scales := [name for name in tensors if "dora_scale" in name]:
        raise CheckpointError(f"the LoRA {file} is a DoRA of kohya's scripts ({scales[0]}): these "
                              "are not supported")  # fmt: skip
    _check_header(file, header, tensors)
    adapter = _adapter(file, header)
    if all(name.startswith(PEFT_PREFIX) for name in tensors):
        adapter = _beside(file)
        tensors = {f"unet.{name.removeprefix(PEFT_PREFIX)}": v for name, v in tensors.items()}
    with translated(f"the LoRA {file} does not load"):
        state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(
            tensors, unet_config=unet.config
        )
        foreign = [name for name in state if not name.startswith("unet.")]
        if foreign or not state:
            raise ValueError(f"it holds more than a U-Net's LoRA, or none (first: {foreign[:3]})")
        if alphas and adapter:
            raise ValueError(f"it has a scale in its tensors and another in {HEADER}")
        metadata = None if adapter is None else _as_peft(adapter, state)
        unet.load_lora_adapter(
            state, prefix="unet", network_alphas=alphas, metadata=metadata, adapter_name="start"
        )
        placed = get_peft_model_state_dict(unet, adapter_name="start")
    if len(placed) != len(state):
        raise CheckpointError(
            f"the LoRA {file} is another model's: {len(placed)} of its {len(state)} tensors found "
            "a place"
        )
    unet.fuse_lora()
    unet.unload_lora()


def _as_peft(adapter: _Adapter, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """As diffusers takes it; the modules are those that have tensors."""
    modules = sorted({name.removeprefix("unet.").split(".lora_")[0] for name in state})
    settings = {**adapter.model_dump(), "target_modules": modules}
    return {f"unet.{key}": value for key, value in settings.items()}


def _check_header(file: Path, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Refuse what could be a scale and is none that is read."""
    for key, value in header.items():
        if key != HEADER and not key.startswith(_NOTES) and _SCALES.search(key):
            raise CheckpointError(
                f"the LoRA {file} has {shown(key)} in its header ({shown(value)}), which could "
                "change its scale and is not understood"
            )
    down = [name.split(".")[0] for name in tensors if name.endswith(".lora_down.weight")]
    bare = [name for name in down if f"{name}.alpha" not in tensors]
    if bare and header.get("ss_network_alpha") not in (None, "None", header.get("ss_network_dim")):
        raise CheckpointError(
            f"the LoRA {file} has no tensor {bare[0]}.alpha, but ss_network_alpha "
            f"{shown(header['ss_network_alpha'])} in its header: its scale is not known"
        )


def _adapter(file: Path, header: Mapping[str, str]) -> _Adapter | None:
    """What diffusers wrote into the header; None where nothing is there."""
    if HEADER not in header:
        return None
    with translated(f"{HEADER} in the header of {file} is not valid JSON"):
        said = json.loads(header[HEADER])
    if not isinstance(said, dict) or not all(key.startswith("unet.") for key in said):
        raise CheckpointError(
            f"{HEADER} in the header of {file} is of more than a U-Net: {shown(said)}"
        )
    source = f"{HEADER} in the header of {file}"
    return _understood(source, {key.removeprefix("unet."): v for key, v in said.items()})


def _beside(file: Path) -> _Adapter:
    """What peft writes into a file of its own."""
    config = file.with_name(PEFT_CONFIG)
    if not config.is_file():
        raise CheckpointError(
            f"the LoRA {file} is peft's, and its scale is in {PEFT_CONFIG}, which is not beside it"
        )
    return _understood(str(config), read_json(config))


def _understood(source: str, said: Mapping[str, Any]) -> _Adapter:
    """The part that matters; CheckpointError for a key that could and is not known."""
    for key, value in said.items():
        if key in _ONLY and value is not None and value not in _ONLY[key]:
            raise CheckpointError(f"{source}: {key} {shown(value)} is not supported")
        known = key in _ONLY or key in _HARMLESS or key in _Adapter.model_fields
        if not known and value not in (None, False, {}, [], ""):
            raise CheckpointError(
                f"{source}: the key {shown(key)} is not understood, and it could change the "
                f"weights (its value: {shown(value)})"
            )
    used = {key: said[key] for key in _Adapter.model_fields if said.get(key) is not None}
    try:
        return parse_settings(_Adapter, used, source)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def _file(lora: str) -> Path:
    """The file that is meant; CheckpointError where it is not there, or not the only one."""
    path = local_path(Path(lora))
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.safetensors"))
        path /= _chosen(str(path), files)
    elif not path.exists() and _HUB_NAME.fullmatch(lora) and path.suffix != ".safetensors":
        return _from_hub(lora)
    try:
        first_bytes(path)
    except CheckpointError as error:
        raise CheckpointError(f"the LoRA {lora} does not load: {error}") from None
    return path


def _chosen(where: str, files: list[str]) -> str:
    for usual in (USUAL, PEFT_FILE):
        if usual in files:
            return usual
    if len(files) == 1:
        return files[0]
    seen = f"{cut(', '.join(files))}: give one of these files" if files else "no .safetensors"
    raise CheckpointError(f"the LoRA {where} does not load: it holds {seen}")


def _from_hub(lora: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with translated(f"the LoRA {lora} is no file here and could not be had from the hub"):
        try:
            return Path(hf_hub_download(lora, USUAL))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
        names = [name for name in HfApi().list_repo_files(lora) if "/" not in name]
        name = _chosen(lora, sorted(name for name in names if name.endswith(".safetensors")))
        if name == PEFT_FILE:
            hf_hub_download(lora, PEFT_CONFIG)
        return Path(hf_hub_download(lora, name))
