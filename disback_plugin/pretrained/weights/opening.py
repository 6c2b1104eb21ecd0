"""`weights:FILE base=SPEC`: a network's weights alone, laid over the checkpoint it began as."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from disback_plugin.diffusion import Denoiser
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.foreign_weights import translated
from disback_plugin.pretrained import describe, load_decoder, load_denoiser, load_text_encoder
from disback_plugin.pretrained.bare import bare_module
from disback_plugin.pretrained.formats import TextEncoder, register_format
from disback_plugin.pretrained.weights.lora import fuse, has_lora, split_lora
from disback_plugin.pretrained.weights.reading import student_tensors
from disback_plugin.reading import shown
from disback_plugin.tensors import misfit

# DMD2 deletes it; it answers to augmentation alone, of which a student is told nothing
_UNUSED = "model.map_augment.weight"


def open_text_encoder(location: str, options: Mapping[str, Any]) -> TextEncoder:
    """The base's."""
    base, _, rest = base_of(location, options)
    return load_text_encoder(base, **rest)


def open_decoder(location: str, options: Mapping[str, Any]) -> nn.Module:
    """The base's."""
    base, _, rest = base_of(location, options)
    return load_decoder(base, **rest)


@register_format("weights", text_encoder=open_text_encoder, decoder=open_decoder)
def open_weights(location: str, options: Mapping[str, Any]) -> Denoiser:
    """The base with the weights of a file: DMD2's `.bin`, or a checkpoint's folder.

    base: a spec; lora_alpha: of a student that is a LoRA (DMD2's --lora_alpha). Other options are
    the base's. Raises CheckpointError where the tensors are not exactly the base's.
    """
    base, alpha, rest = base_of(location, options)
    tensors = student_tensors(location)
    denoiser = load_denoiser(base, **rest)
    module = bare_module(denoiser)
    if has_lora(tensors):
        tensors, lora = split_lora(tensors, needed_alpha(alpha, location), location)
        _lay_over(module, tensors, location, base)
        with translated(f"the LoRA in {location} does not load"):
            fuse(module, lora, location)
    else:
        _lay_over(module, tensors, location, base)
    role = f"{Path(location).name} over {base}"
    denoiser.description = replace(describe(denoiser), source="weights", role=role)
    return denoiser


def base_of(location: str, options: Mapping[str, Any]) -> tuple[str, float | None, dict[str, Any]]:
    """base, lora_alpha, and the base's own options; ConfigError without a base."""
    rest = dict(options)
    base, alpha = rest.pop("base", None), rest.pop("lora_alpha", None)
    if not isinstance(base, str):
        raise ConfigError(
            f"weights:{location} does not tell what network it is for: give base=KIND:LOCATION, "
            "the checkpoint that its training began from"
        )
    return base, alpha, rest


def needed_alpha(alpha: Any, location: str) -> float:
    """The LoRA's scale, which its tensors do not tell."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
        seen = "" if alpha is None else f" (seen: {shown(alpha)})"
        raise ConfigError(
            f"{location} holds a LoRA, whose scale it does not tell: give lora_alpha, DMD2's "
            f"--lora_alpha (8 unless given there){seen}"
        )
    return float(alpha)


def _lay_over(module: nn.Module, tensors: Mapping[str, Tensor], location: str, base: str) -> None:
    own = dict(module.state_dict())
    due = {name: value for name, value in own.items() if name != _UNUSED or name in tensors}
    if problem := misfit(due, tensors):
        raise CheckpointError(f"{location} does not hold the weights of {base}: {problem}")
    module.load_state_dict({**own, **tensors}, strict=True)
