"""Command-line overrides of a config: `distill.student_lr=1e-4`, dotted keys, YAML values."""

import copy
import re
from collections.abc import Sequence
from typing import Any

import yaml

from disback_plugin.errors import ConfigError

# YAML 1.1 reads 1e-4 as text (it wants 1.0e-4); nobody who types it means text.
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def apply_overrides(data: Any, overrides: Sequence[str]) -> Any:
    """A copy of `data` with every `key.of.section=value` set; validation comes after.

    Sections that are missing or null are made. Raises ConfigError for text without `=` and for a
    key that goes through something that is not a section.
    """
    result = copy.deepcopy(data)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {text!r} is not of the form key=value")
        _set(result, key.strip(), _value(value, text), text)
    return result


def _value(value: str, text: str) -> Any:
    if _FLOAT.fullmatch(value.strip()):
        return float(value)
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"the value of override {text!r} is not valid YAML") from None


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
