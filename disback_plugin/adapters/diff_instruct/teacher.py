"""Diff-Instruct's teacher from a local file, and a check that all of it is loaded."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, TypeVar

import click
from torch import Tensor, nn

from disback_plugin.errors import ConfigError
from disback_plugin.tensors import misfit

Command = TypeVar("Command", bound=Callable[..., Any])


def option(command: Command) -> Command:
    """Decorator: adds `--edm_file`."""
    return click.option(
        "--edm_file",
        help="Teacher: an EDM network pickle on disk, in place of the one of --edm_model",
        metavar="PKL",
        type=click.Path(exists=True, dir_okay=False),
    )(command)


def choose(addresses: Mapping[str, str], model: str, file: str | None) -> dict[str, str]:
    """The table of teachers with `file` in the place of `model`; a usage error if it has none."""
    if file is None and model not in addresses:
        raise click.UsageError(
            f"there is no address to download {model!r} from (only {', '.join(addresses)}): give "
            "the file by --edm_file"
        )
    return {**addresses, **({} if file is None else {model: file})}


def check(source: nn.Module, network: nn.Module) -> None:
    """Raise ConfigError unless `source` has every tensor of `network`, in its shape.

    Tensors are copied by name, and those without a namesake stay random without a word.
    """
    given, wanted = _tensors(source), _tensors(network)
    if problem := misfit(wanted, {name: given[name] for name in wanted if name in given}):
        raise ConfigError(
            f"the network pickle does not hold the {len(wanted)} tensors of the network that the "
            f"options describe ({problem}): give the --arch, --cbase, --cres, --cond and --augment "
            "it was made with"
        )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(chain(module.named_parameters(), module.named_buffers()))
