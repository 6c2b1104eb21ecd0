"""Parses the command line and turns what a user can cause into one clear message."""

import argparse
import errno
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from disback_plugin.cli import (
    adapters,
    compare,
    completion,
    convert,
    data,
    demo,
    doctor,
    evaluate,
    export,
    inspect,
    patches,
    path,
    report,
    run,
    sample,
    status,
    tables,
)
from disback_plugin.cli.parser import Formatter, Parser, Version
from disback_plugin.cli.stopping import stoppable
from disback_plugin.errors import DisBackError
from disback_plugin.reading import cut, local_path, told

COMMANDS = (
    *(demo, run, sample, evaluate, tables, export, compare, data, path, convert, inspect),
    *(adapters, patches, status, report, doctor, completion),
)

_ROOM = (
    "make room, then give the same command again (a run, with --resume): what is finished is kept"
)
_RIGHTS = "change its permissions, or give another path"
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _RIGHTS),
    errno.EISDIR: "it is a folder: give a file, or move it away",
    errno.ENOTDIR: "a part of it is a file: give another path",
    errno.EEXIST: "it is there already, as something else: move it away",
}

DESCRIPTION = "Distribution Backtracking (DisBack) for one-step diffusion distillation."
EXAMPLES = """examples:
  disback demo                              real images, in a few minutes
  disback run experiments/digits/ddpm.yaml  every arm of an experiment
  disback inspect edm-pkl:FILE              what a checkpoint is
  disback path show RUN/path                the recorded nodes
  disback doctor                            what is installed, what is missing
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 a check failed, 2 a user's error, 130)."""
    parser = make_parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(args, "overrides") or any(text[0] == "-" for text in rest)):
        args.parser.refuse(rest)
    if rest:  # key=value may also come after options
        args.overrides += rest
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names and prompts may be any text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _make_local(args)
        with stoppable():
            return args.command(args)
    except DisBackError as error:
        print(f"disback: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "disback_plugin":
            raise
        print(
            f"disback: error: the package {error.name!r} is missing, which this command needs: "
            "pip install 'disback_plugin[train]' (see: disback doctor)",
            file=sys.stderr,
        )
        return 2
    except OSError as error:  # a folder where a file should be, no permission, a full disk
        print(f"disback: error: {_told(error)}", file=sys.stderr)
        return 2
    except MemoryError:
        print("disback: error: the memory does not suffice", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("disback: stopped", file=sys.stderr)
        return 130


def _make_local(args: argparse.Namespace) -> None:
    """~ in arguments that are paths is the home folder; an address there is an error."""
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, local_path(value))
        elif isinstance(value, list) and all(isinstance(item, Path) for item in value):
            setattr(args, name, [local_path(item) for item in value])


def _told(error: OSError) -> str:
    """File, what the system says, and what to do."""
    if error.strerror is None:
        return told(error)
    where = "" if error.filename is None else f"{cut(error.filename)}: "
    advice = ADVICE.get(error.errno or 0)
    return f"{where}{error.strerror}" + (f"; {advice}" if advice else "")


def make_parser() -> Parser:
    """The parser with all commands."""
    parser = Parser(
        prog="disback", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=Formatter
    )
    parser.set_defaults(whole=parser)
    parser.add_argument("--version", action=Version)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
