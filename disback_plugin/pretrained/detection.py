"""What a file or folder is, told from its content, one step into it; never from its name."""

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from disback_plugin.errors import CheckpointError
from disback_plugin.foreign_weights import LEGACY_TORCH, PICKLE, ZIP, first_bytes, is_safetensors
from disback_plugin.reading import cut, require_regular

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # of a repository, owner/name
MOST_BYTES, MOST_NAMES = 1 << 24, 100_000  # that are read of a pickle to tell what it is

PICKLED = "a pickle, as NVlabs/edm publishes"
TORCH = "a torch.save file"
OPENAI = f"{TORCH}, as openai/consistency_models publishes"
FOLDER = "a diffusers folder"
CM_FOLDER = "a diffusers folder of a consistency model"
RUN = "a folder that `disback run` wrote"
OURS = "a safetensors file"
FORMATS = (PICKLED, OPENAI, CM_FOLDER, FOLDER, RUN, OURS)


@dataclass(frozen=True)
class Content:
    """kinds: what may read it, the likeliest first; what: it is; advice: what to give instead.

    sure: whether a kind is known to read it; else it may be tried where a user names it.
    """

    kinds: tuple[str, ...]
    what: str
    advice: str = ""
    sure: bool = True


_CONVERT = (
    "make a folder of it, diffusers.{0}.from_single_file(FILE).save_pretrained(DIR), and give "
    "diffusers:DIR"
)
_TRANSFORMER = (
    "a transformer is read from a pipeline's folder: save diffusers.{0}.from_single_file(FILE) as "
    "PIPELINE/transformer, and give diffusers:PIPELINE"
)
_SNAPSHOT = "give the network-snapshot-*.pkl that the training wrote beside it, as edm-pkl:FILE"
_BASE = "give its base model, and this file as an option: diffusers:BASE lora=FILE"
_WEIGHTS = (
    "give the folder with its config.json, as diffusers:DIR; or weights:FILE, with its base model "
    "as an option: base=diffusers:BASE"
)
# patterns that all begin a name in the file -> what the file is, what to do; the first counts
_KNOWN = (
    (("optimizer_state$", "net$"), "a training state of NVlabs/edm", _SNAPSHOT),
    (
        ("(.*\\.)?double_blocks\\.",),
        "a single-file checkpoint of Flux",
        _TRANSFORMER.format("FluxTransformer2DModel"),
    ),
    (
        ("(.*\\.)?joint_blocks\\.",),
        "a single-file checkpoint of Stable Diffusion 3",
        _TRANSFORMER.format("SD3Transformer2DModel"),
    ),
    (
        ("model\\.diffusion_model\\.", "conditioner\\."),
        "a single-file checkpoint of SDXL",
        _CONVERT.format("StableDiffusionXLPipeline"),
    ),
    (
        ("model\\.diffusion_model\\.",),
        "a single-file checkpoint of Stable Diffusion",
        _CONVERT.format("StableDiffusionPipeline"),
    ),
    (("(lora_unet_|.*\\.lora[_.](A|B|up|down|E)\\b)",), "a LoRA", _BASE),
    (("conv_in\\.weight$", "down_blocks\\."), "the weights of a U-Net of diffusers", _WEIGHTS),
    (("(encoder|decoder)\\.conv_in\\.",), "a VAE", "give the pipeline that it belongs to"),
    (("(.*\\.)?text_model\\.",), "a text encoder", "give the pipeline that it belongs to"),
    (("transformer_blocks\\.",), "the weights of a transformer of diffusers", _WEIGHTS),
)
_OPENAI_NAMES = ("time_embed\\.0\\.weight$", "input_blocks\\.0\\.0\\.weight$")


def look(location: Path) -> Content | None:
    """What lies there; None where it is nothing known. CheckpointError for no file of weights."""
    if location.is_dir():
        return _folder(location)
    start = first_bytes(location)
    if is_safetensors(start):
        names, own = _header(location)
        if own:
            return Content(("safetensors",), OURS)
        return _known(names) or Content(("safetensors",), _listed(OURS, names), sure=False)
    if start.startswith((ZIP, LEGACY_TORCH)):
        names = pickled_names(location)
        if _have(names, _OPENAI_NAMES):
            return Content(("cm",), OPENAI)
        return _known(names) or Content(("cm",), _listed(TORCH, names), sure=False)
    return Content(("edm-pkl",), PICKLED) if start.startswith(PICKLE) else None


def _known(names: Sequence[str]) -> Content | None:
    for patterns, what, advice in _KNOWN:
        if _have(names, patterns):
            return Content((), what, advice)
    return None


def _have(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return all(any(re.match(pattern, name) for name in names) for pattern in patterns)


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what} with {', '.join(cut(name, 80) for name in names[:3]) or 'no names in it'}"


def pickled_names(file: Path) -> list[str]:
    """The texts in a torch.save file, keys among them: its pickle is looked through, never run."""
    try:
        with file.open("rb") as raw:
            if not zipfile.is_zipfile(raw):
                raw.seek(0)
                return _texts(raw.read(MOST_BYTES))
            with zipfile.ZipFile(raw) as archive:
                inner = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                with archive.open(inner[0]) as stream:
                    return _texts(stream.read(MOST_BYTES))
    except Exception:  # damaged in any way: who reads it says so
        return []


def _texts(data: bytes) -> list[str]:
    """Without what torch itself writes: the names of classes, storages and devices."""
    stream, texts = io.BytesIO(data), dict[str, None]()
    try:
        while stream.tell() < len(data) and len(texts) < MOST_NAMES:
            for code, value, _ in pickletools.genops(stream):
                if isinstance(value, str) and "UNICODE" in code.name:
                    texts[value] = None
    except Exception:  # the end of a cut pickle
        pass
    skipped = {"storage", "cpu", "cuda:0", "protocol_version", "little_endian", "type_sizes"}
    return [text for text in texts if text not in skipped and not text.isdigit()]


def _header(file: Path) -> tuple[list[str], bool]:
    """The names in a safetensors file, and whether its header is ours."""
    try:
        with safe_open(file, framework="pt") as stream:
            return sorted(stream.keys()), "disback" in (stream.metadata() or {})
    except Exception:  # damaged: who reads it says so
        return [], True


def _folder(folder: Path) -> Content | None:
    index, name = folder / "model_index.json", None
    pipeline = index.is_file()
    if pipeline:
        require_regular(index, CheckpointError, MOST_BYTES)
        try:
            name = json.loads(index.read_bytes()).get("_class_name")
        except Exception:  # the U-Net may load without it; who needs it says what is wrong
            name = None
    a_run = any((folder / inner).is_file() for inner in ("run.json", "config.yaml"))
    also = ("run",) if a_run else ()
    if name == "ConsistencyModelPipeline":
        return Content(("cm", *also), CM_FOLDER)
    if pipeline or (folder / "unet" / "config.json").is_file():
        return Content(("diffusers", "cm", *also), FOLDER)
    top = ("diffusers", "cm") if (folder / "config.json").is_file() else ()
    if a_run:
        return Content((*also, *top), RUN)
    return Content(top, FOLDER) if top else None
