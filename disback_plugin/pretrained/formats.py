"""Where formats register: what opens a file or folder as a denoiser, and its text encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from disback_plugin.diffusion import Denoiser, TextCondition
from disback_plugin.errors import ConfigError
from disback_plugin.reading import shown


class TextEncoder(Protocol):
    """The frozen text encoder that a text model was trained with."""

    def __call__(self, prompts: Sequence[str]) -> TextCondition:
        """The embeddings of the prompts."""

    def to(self, device: torch.device) -> "TextEncoder":
        """This encoder, moved."""


# all take the location (what follows the colon of a spec) and the options
Opener = Callable[[str, Mapping[str, Any]], Denoiser]
TextEncoderOpener = Callable[[str, Mapping[str, Any]], TextEncoder]
DecoderOpener = Callable[[str, Mapping[str, Any]], nn.Module]  # latents -> pixels in [-1, 1]


@dataclass(frozen=True)
class Format:
    """open: to a denoiser with its description. The others: None where no model has such a part."""

    open: Opener
    text_encoder: TextEncoderOpener | None
    decoder: DecoderOpener | None


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
FORMATS: dict[str, Format] = {}


def register_format(
    kind: str,
    text_encoder: TextEncoderOpener | None = None,
    decoder: DecoderOpener | None = None,
) -> Callable[[Opener], Opener]:
    """Decorator: the function opens specs `kind:LOCATION`; a taken kind is an error."""

    def register(opener: Opener) -> Opener:
        if kind in FORMATS:
            raise ConfigError(f"checkpoint format {kind!r} is already registered")
        FORMATS[kind] = Format(opener, text_encoder, decoder)
        return opener

    return register


def take_options(
    options: Mapping[str, Any],
    kind: str,
    known: Mapping[str, Any],
    types: Mapping[str, type] = {},
) -> dict[str, Any]:
    """`known` defaults updated by `options`; ConfigError for one that the format does not have.

    types: of options whose default, None, does not tell it; their values may be None too.
    """
    for name, value in options.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"format {kind!r} has no option {name!r}; {has}")
        due = types.get(name) or type(known[name])
        fits = type(value) in ((float, int) if due is float else (due,))
        if not fits and (value is not None or known[name] is not None):
            raise ConfigError(
                f"option {name!r} of {kind} must be {_WORDS.get(due, due.__name__)}, not "
                f"{shown(value)}"
            )
    return {**known, **options}
