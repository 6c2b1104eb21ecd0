"""Which format a file or folder has, told from its first bytes or its files, never its name."""

import json
import re
from pathlib import Path

ZIP, PICKLE, SAFETENSORS = b"PK\x03\x04", b"\x80", b"{"
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # of a repository, owner/name

# what is found -> the kind of spec that reads it
MEANING = {
    "edm-pkl": "a pickle, as NVlabs/edm publishes",
    "cm": "a torch.save file, as openai/consistency_models publishes",
    "cm-diffusers": "a diffusers folder of a consistency model",
    "diffusers": "a diffusers folder",
    "run": "a folder that `disback run` wrote",
    "safetensors": "a safetensors file",
}


def detect(location: Path) -> str | None:
    """A key of MEANING; None where the content is none of them."""
    if location.is_dir():
        return _detect_folder(location)
    start = _first_bytes(location)
    if start.startswith((ZIP, LEGACY_TORCH)):
        return "cm"
    if start.startswith(PICKLE):
        return "edm-pkl"
    return "safetensors" if start[8:9] == SAFETENSORS else None


def starts_as_zip(file: Path) -> bool:
    """Whether it is an archive, as torch.save writes since 1.6; its end may be cut off."""
    return _first_bytes(file).startswith(ZIP)


def _first_bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(16)


def _detect_folder(folder: Path) -> str | None:
    if (folder / "run.json").is_file() or (folder / "config.yaml").is_file():
        return "run"
    index = folder / "model_index.json"
    if index.is_file():
        try:
            name = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
        except json.JSONDecodeError:
            return None
        return "cm-diffusers" if name == "ConsistencyModelPipeline" else "diffusers"
    if any((folder / inner).is_file() for inner in ("config.json", "unet/config.json")):
        return "diffusers"
    return None
