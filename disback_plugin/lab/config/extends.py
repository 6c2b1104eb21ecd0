"""Configs of one family: a file says what it changes in another one, beside it."""

import os
from pathlib import Path
from typing import Any

from disback_plugin.config_base import read_yaml
from disback_plugin.errors import ConfigError

KEY = "extends"


def read_extended(file: Path) -> Any:
    """The plain data of a YAML file, laid over those of the file that its `extends` names.

    The name is relative to the file. Sections are merged key by key, whatever else is there
    replaces; null takes away. Raises ConfigError for a name that is no text, and for a circle.
    """
    return _read(file, ())


def _read(file: Path, way: tuple[Path, ...]) -> Any:
    here = Path(os.path.realpath(file))  # which takes a loop of links
    if here in way:
        raise ConfigError(f"{file}: its {KEY!r} leads back to itself; take one of them out")
    data = read_yaml(file)
    if not isinstance(data, dict) or KEY not in data:
        return data
    name = data.pop(KEY)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{file}: {KEY!r} is {name!r}; give the name of a config beside it")
    return _over(_read(file.parent / name, (*way, here)), data)


def _over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _over(below.get(key), value) for key, value in above.items()}
