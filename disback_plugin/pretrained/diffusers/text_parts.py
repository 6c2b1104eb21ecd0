"""The text encoders and tokenizers of a pipeline, in a pipeline that has nothing else."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers

from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.foreign_weights import translated
from disback_plugin.pretrained.diffusers.files import Repository
from disback_plugin.reading import shown

_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")


@dataclass(frozen=True)
class TextFamily:
    """pipeline: of diffusers, asked to encode. encoders: part -> the classes that it may have.

    Each has its tokenizer beside it: `text_encoder_2` has `tokenizer_2`. Parts may be left out,
    the first not. nothing: what the pipeline is made without. most_tokens: of a flow's prompts.
    """

    pipeline: str
    encoders: Mapping[str, tuple[str, ...]]
    nothing: tuple[str, ...] = ("vae", "transformer", "scheduler")
    most_tokens: int = 512

    def check(self, index: Mapping[str, Any], location: str) -> None:
        """Raise CheckpointError where model_index.json names another pipeline: for editing, say."""
        if index and (seen := index.get("_class_name")) != self.pipeline:
            raise CheckpointError(
                f"{location}/model_index.json is of a {shown(seen)}; such a transformer is asked "
                f"as {self.pipeline} does, from text alone: give one of that pipeline"
            )

    def prompt_length(self, length: int | None) -> int:
        """The option `max_sequence_length`, by default the pipeline's own; ConfigError."""
        if length is None:
            call = getattr(diffusers, self.pipeline).__call__
            return inspect.signature(call).parameters["max_sequence_length"].default
        if not 1 <= length <= self.most_tokens:
            raise ConfigError(
                f"option 'max_sequence_length' is 1 to {self.most_tokens} tokens of "
                f"{self.pipeline}, not {length}"
            )
        return length


STABLE_DIFFUSION = TextFamily(
    "StableDiffusionPipeline",
    {"text_encoder": _CLIP},
    ("vae", "unet", "scheduler", "safety_checker", "feature_extractor"),
)
SDXL = TextFamily(
    "StableDiffusionXLPipeline",
    {"text_encoder": _CLIP, "text_encoder_2": _CLIP},
    ("vae", "unet", "scheduler"),
)
# the class of the denoiser's transformer -> how its prompts are encoded
FLOWS: dict[str, TextFamily] = {
    "SD3Transformer2DModel": TextFamily(
        "StableDiffusion3Pipeline",
        {"text_encoder": _CLIP, "text_encoder_2": _CLIP, "text_encoder_3": ("T5EncoderModel",)},
    ),
    "FluxTransformer2DModel": TextFamily(
        "FluxPipeline", {"text_encoder": _CLIP, "text_encoder_2": ("T5EncoderModel",)}
    ),
    "QwenImageTransformer2DModel": TextFamily(
        "QwenImagePipeline",
        {"text_encoder": ("Qwen2_5_VLForConditionalGeneration",)},
        most_tokens=1024,
    ),
    "WanTransformer3DModel": TextFamily("WanPipeline", {"text_encoder": ("UMT5EncoderModel",)}),
}


def text_pipeline(repository: Repository, dtype: torch.dtype = torch.float32) -> Any:
    """A pipeline of the family that has nothing but its text encoders, frozen, in `dtype`.

    Raises CheckpointError where there are none, or of another class than the family's.
    """
    index = repository.read_json("model_index.json") or {}
    family = _family(index)
    if family in FLOWS.values():
        family.check(index, repository.location)
    parts = {
        name: _part(repository, name, kind, dtype)
        for encoder, classes in family.encoders.items()
        for name in (encoder, _tokenizer(encoder))
        if (kind := _class_of(repository, index, name, classes))
    }
    if "text_encoder" not in parts:
        raise CheckpointError(f"{repository.location} names no text_encoder in a model_index.json")
    everything = dict.fromkeys((*family.nothing, *family.encoders)) | parts
    everything |= dict.fromkeys({_tokenizer(name) for name in family.encoders} - set(parts))
    if family is SDXL:
        zeros = bool(index.get("force_zeros_for_empty_prompt", True))
        everything |= {"force_zeros_for_empty_prompt": zeros, "add_watermarker": False}
    if family is STABLE_DIFFUSION:
        everything["requires_safety_checker"] = False
    if family.pipeline == "StableDiffusion3Pipeline" and "text_encoder_3" not in parts:
        everything["transformer"] = _without_weights(repository)
    return getattr(diffusers, family.pipeline)(**everything)


def _family(index: Mapping[str, Any]) -> TextFamily:
    match index.get("transformer"):
        case [_, str(name)] if name in FLOWS:
            return FLOWS[name]
    return SDXL if index.get("text_encoder_2") not in (None, [None, None]) else STABLE_DIFFUSION


def _tokenizer(encoder: str) -> str:
    """The part beside a text encoder."""
    return encoder.replace("text_encoder", "tokenizer")


def _without_weights(repository: Repository) -> Any:
    """SD3's transformer on no device: without a T5 the pipeline asks it how wide zeros are."""
    config = repository.read_json("config.json", "transformer") or {}
    with torch.device("meta"):
        return diffusers.SD3Transformer2DModel.from_config(config)


def _class_of(
    repository: Repository, index: Mapping[str, Any], part: str, known: tuple[str, ...]
) -> str | None:
    """The class of a text part; CheckpointError for one that is not asked as here."""
    match index.get(part):
        case None | [None, None]:
            return None
        case ["transformers", str(kind)] if hasattr(transformers, kind):
            if kind in known or part.startswith("tokenizer"):
                return kind
    raise CheckpointError(
        f"{repository.location}/model_index.json says that its {part} is "
        f"{shown(index.get(part))}; text encoders that are read are {' and '.join(known)} of "
        "transformers"
    )


def _part(repository: Repository, folder: str, kind: str, dtype: torch.dtype) -> Any:
    """A text encoder or tokenizer; the class is transformers' own."""
    load = getattr(transformers, kind).from_pretrained
    where = {"subfolder": folder, "revision": repository.revision or "main"}
    what = f"{folder} in {repository.location} does not load"
    if folder.startswith("tokenizer"):
        with translated(what):
            return load(repository.location, **where)
    if (repository.read_json("config.json", folder) or {}).get("quantization_config"):
        file = f"{repository.location}/{folder}/config.json"
        raise CheckpointError(f"{file}: quantization_config is not supported")
    repository.check_files(what, folder, "model")
    with translated(what):
        encoder, found = load(
            repository.location,
            **where,
            variant=repository.variant,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    repository.refuse_misfits(kind, found)
    return encoder.eval().requires_grad_(False)
