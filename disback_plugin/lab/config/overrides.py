"""Command-line overrides of a config: `distill.student_lr=1e-4`, dotted keys, YAML values."""

import re
from collections.abc import Sequence
from typing import Any

from disback_plugin.errors import ConfigError
from disback_plugin.plain_yaml import parse_yaml

# YAML 1.1 reads 1e-4 as text (it wants 1.0e-4); nobody who types it means text.
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def apply_overrides(data: Any, overrides: Sequence[str]) -> Any:
    """A copy of `data` with every `key.of.section=value` set; validation comes after.

    Sections that are missing or null are made. Raises ConfigError for text without `=` and for a
    key that goes through something that is not a section.
    """
    result = _copied(data)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {text!r} is not of the form key=value")
        _set(result, key.strip(), _value(value, text), text)
    return result


def _value(value: str, text: str) -> Any:
    if _FLOAT.fullmatch(value.strip()):
        return float(value)
    return parse_yaml(value, f"the value of override {text!r}")


def _copied(data: Any) -> Any:
    """A deep copy in which sections that a YAML alias repeats are no longer one object."""
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data


def _set(data: Any, key: str, value: Any, text: str) -> None:
    *sections, last = key.split(".")
    for depth, section in enumerate(sections):
        if isinstance(data, dict) and data.get(section) is None:
            data[section] = {}
        if not isinstance(data, dict) or not isinstance(data[section], dict):
            where = ".".join(sections[: depth + 1])
            raise ConfigError(f"override {text!r}: {where!r} is not a section")
        data = data[section]
    if not isinstance(data, dict):
        raise ConfigError(f"override {text!r}: the config is not a mapping")
    data[last] = value
