"""Where formats register: one function each, from a file or folder to a denoiser."""

from collections.abc import Callable, Mapping
from typing import Any

from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.errors import ConfigError

# location (what follows the colon of a spec) and options -> the denoiser and what was found
Opener = Callable[[str, Mapping[str, Any]], tuple[Denoiser, Description]]
FORMATS: dict[str, Opener] = {}


def register_format(kind: str) -> Callable[[Opener], Opener]:
    """Decorator: the function opens specs `kind:LOCATION`; a taken kind is an error."""

    def register(opener: Opener) -> Opener:
        if kind in FORMATS:
            raise ConfigError(f"checkpoint format {kind!r} is already registered")
        FORMATS[kind] = opener
        return opener

    return register


def take_options(options: Mapping[str, Any], kind: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """`known` defaults updated by `options`; ConfigError for one that the format does not have."""
    for name in options:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"format {kind!r} has no option {name!r}; {has}")
    return {**known, **options}
