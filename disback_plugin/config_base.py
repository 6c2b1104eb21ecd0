"""Strict, frozen settings: an unknown key is an error that names the nearest valid one."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from disback_plugin.errors import ConfigError
from disback_plugin.plain_yaml import parse_yaml
from disback_plugin.reading import cut, local_path, read_text, shown

Model = TypeVar("Model", bound="StrictModel")
MAX_FILE = 1 << 18  # bytes; PyYAML takes seconds for it
MAX_PROBLEMS = 20


def nearest(name: str, valid: list[str]) -> str:
    """A hint for a misspelt name: the closest valid one, else all of them."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"


def known_name(name: str, valid: Sequence[str]) -> str:
    """For a field's validator: the name, or an error with the nearest valid one."""
    if name not in valid:
        raise ValueError(f"unknown name; {nearest(name, list(valid))}")
    return name


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _RaisesConfigError(ModelMetaclass):
    """One kind of error, whether settings come from a file or are constructed in code."""

    def __call__(self, *args: Any, **data: Any) -> Any:
        try:
            return super().__call__(*args, **data)
        except ValidationError as error:
            raise ConfigError(_describe(error, self.__name__)) from None


class StrictModel(BaseModel, metaclass=_RaisesConfigError):
    """Base of every settings class: keyword-only, frozen, validated at construction.

    removed: keys that an earlier version had, and why they are gone.
    """

    removed: ClassVar[Mapping[str, str]] = {}
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key in cls.removed:
                    raise ValueError(f"{key!r} of {cls.__name__} was removed: {cls.removed[key]}")
                if key not in cls.model_fields:
                    hint = nearest(str(key), list(cls.model_fields))
                    raise ValueError(f"unknown key {shown(key)} in {cls.__name__}; {hint}")
        return data

    @field_validator("*", mode="after")
    @classmethod
    def _local(cls, value: Any) -> Any:
        return local_path(value) if isinstance(value, Path) else value


def parse_settings(model: type[Model], data: Any, source: str) -> Model:
    """Validate `data` as `model`; raises ConfigError naming `source`, key and value."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_describe(error, source)) from None


def read_yaml(file: Path) -> Any:
    """The plain data in a YAML file; raises ConfigError if it is missing or no YAML."""
    if file.is_dir():
        files = ", ".join(sorted(str(other) for other in file.glob("*.yaml"))) or "it holds none"
        raise ConfigError(f"{file} is a folder: give a config file ({cut(files)})")
    if not os.path.lexists(file):
        there = sorted(other.name for other in file.parent.glob("*.y*ml"))
        hint = f"; {nearest(file.name, there)}" if there else ""
        raise ConfigError(f"no such config file: {file}{cut(hint)}")
    try:
        text = read_text(file, ConfigError, MAX_FILE)
    except ConfigError as error:
        raise ConfigError(f"{error}: give the experiment's config, a YAML text") from None
    return parse_yaml(text, str(file))


def _describe(error: ValidationError, source: str) -> str:
    lines = []
    problems = error.errors(include_url=False)
    for item in problems[:MAX_PROBLEMS]:
        where = cut(".".join(str(part) for part in item["loc"]), 200)
        message = cut(item["msg"].removeprefix("Value error, "))
        seen = "" if isinstance(item["input"], Mapping) else f" (seen: {shown(item['input'])})"
        lines.append(f"{source}: {where + ': ' if where else ''}{message}{seen}")
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"{source}: and {len(problems) - MAX_PROBLEMS:,} more")
    return "\n".join(lines)
