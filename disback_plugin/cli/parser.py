"""The parser of every command: help in 80 columns with defaults, an error in two lines."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any, NoReturn

import disback_plugin

COLUMNS = 80
_TERM = re.compile(r" +\S.*? {2,}(?=\S)")  # what a line of a list explains, and the gap behind it
_VALUE = re.compile(r"(?<= )(-\S+) (?=[^-\s])")  # an option and the gap before its value


class Formatter(argparse.RawDescriptionHelpFormatter):
    """No wider than 80 columns or the terminal; an option says its default, or that it must be."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(shutil.get_terminal_size().columns, COLUMNS) - 2)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        """The help, with the default unless that tells more than its value."""
        told = action.help or ""
        if not action.option_strings or action.nargs == 0 or "default" in told:
            return told
        if action.required:
            return f"{told} (required)"
        return told if action.default is None else f"{told} (default: %(default)s)"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(line for block in text.split("\n\n") for line in (*_fit(block, width), ""))


class Version(argparse.Action):
    """Prints the version, which is looked up only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        told = "show program's version number and exit"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=told)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        print(disback_plugin.__version__)
        parser.exit()


class Parser(argparse.ArgumentParser):
    """Errors are what was wrong and where the help is, not a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"disback: error: {message}\nsee: {self.prog} --help\n")

    def refuse(self, words: list[str]) -> NoReturn:
        """What nothing here takes: the error, with the nearest option where one is close."""
        message = f"unrecognized arguments: {' '.join(words)}"
        hint = _nearest(
            words[0], [name for action in self._actions for name in action.option_strings]
        )
        self.error(f"{message}; {hint}" if hint.startswith("did you mean") else message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = _nearest(str(value), [str(choice) for choice in action.choices])
            raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")


def _nearest(name: str, valid: list[str]) -> str:
    from disback_plugin.config_base import nearest  # and with it pydantic: most of a start's time

    return nearest(name, valid)


def _fit(block: str, width: int) -> Iterator[str]:
    """The lines of a paragraph, a list or commands, those that are too long in parts."""
    prose: list[str] = []
    for line in block.splitlines():
        heading = line.endswith(":") and not prose
        if not line.startswith(" ") and not heading:
            prose.append(line)
            continue
        yield from textwrap.wrap(" ".join(prose), width)
        prose = []
        yield from [line] if len(line) <= width else _parts(line, width)
    yield from textwrap.wrap(" ".join(prose), width)


def _parts(line: str, width: int) -> list[str]:
    """A command goes on after a backslash, a list's words below themselves."""
    start = len(line) - len(line.lstrip())
    if line.lstrip().startswith(("disback ", "torchrun ")):
        together = _wrapped(_VALUE.sub("\\1\0", line), width - 2, start + 4)
        parts = [part.replace("\0", " ") for part in together]
        return [f"{part} \\" for part in parts[:-1]] + parts[-1:]
    found = _TERM.match(line)
    return _wrapped(line, width, len(found[0]) if found else start + 2)


def _wrapped(line: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
