"""`disback completion`: a script for the shell, made once by shtab: no Python runs at a Tab."""

import argparse
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.cli.showing import show
from disback_plugin.errors import ConfigError

SHELLS = ("bash", "zsh", "tcsh")
EXAMPLES = """  disback completion bash > ~/.local/share/bash-completion/completions/disback
  disback completion zsh > ~/.zfunc/_disback
"""
DETAILS = """Commands, actions, options, their choices and files are completed. Give the command
again after an update. For zsh the folder must be in fpath before compinit is called.

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "print a script that completes disback's words at a Tab"
    parser = add_command(commands, "completion", summary, EXAMPLES, DETAILS)
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ModuleNotFoundError:
        extra = "pip install 'disback_plugin[completion]'"
        raise ConfigError(f"completion needs shtab: {extra}") from None
    _complete_files(args.whole, shtab.FILE)
    show([shtab.complete(args.whole, shell=args.shell)])
    return 0


def _complete_files(parser: argparse.ArgumentParser, how: Any) -> None:
    """Mark the arguments that are paths, in every command and action."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete_files(inner, how)
        elif action.type is Path:
            action.complete = how  # type: ignore[attr-defined]
