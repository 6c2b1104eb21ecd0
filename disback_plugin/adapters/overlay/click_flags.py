"""The `--disback` flags for a host whose script takes its options by click."""

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

import click

from disback_plugin.adapters.overlay import flag_settings
from disback_plugin.adapters.overlay.flags import SWITCH, Flag, flags
from disback_plugin.adapters.overlay.host_run import HostRun
from disback_plugin.errors import ConfigError, PathError

Command = TypeVar("Command", bound=Callable[..., Any])


class _Parsed(click.ParamType):
    """A flag's own reading of its text."""

    def __init__(self, flag: Flag) -> None:
        self.name = flag.name.upper()
        self._parse = flag.parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except argparse.ArgumentTypeError as error:
            self.fail(str(error), param, ctx)


def options(command: Command) -> Command:
    """Decorator: adds the flags; all but `--disback` are None unless given."""
    for flag in reversed(flags()):
        kind = click.Choice(flag.choices) if flag.choices else _Parsed(flag)
        command = click.option(f"--disback_{flag.name}", type=kind, help=flag.text)(command)
    return click.option("--disback", is_flag=True, help=SWITCH)(command)


def check_options(args: argparse.Namespace, run: HostRun | None = None) -> None:
    """Refuse, as click does, what cannot work, before the host loads anything."""
    try:
        flag_settings.check(args, run)
    except (ConfigError, PathError) as error:
        raise click.UsageError(str(error)) from None
