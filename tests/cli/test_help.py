"""The help of every command, and of every action, ends with examples that can be run."""

import argparse
import re
import shlex

import pytest

from disback_plugin.cli.main import main, make_parser


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command and of every action."""
    found = [words] if words else []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found += commands(inner, (*words, name))
    return found


def test_actions_are_among_the_commands() -> None:
    known = commands(make_parser())
    assert {("doctor",), ("path", "show"), ("convert", "cm"), ("dmd2", "revert")} < set(known)
    assert len(known) >= 30


@pytest.mark.parametrize("words", commands(make_parser()), ids=" ".join)
def test_help_ends_with_examples_that_parse(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    _, examples = capsys.readouterr().out.split("\nexamples:\n")
    lines = [line.removeprefix("  ") for line in examples.rstrip("\n").split("\n")]
    others = [line for line in lines if not line.startswith("disback ")]
    assert all(line.startswith(("git clone ", "torchrun ")) for line in others)
    # what follows two spaces is a remark, what follows a bar another program
    shown = [shlex.split(re.split(r"\s{2,}|\|", line)[0])[1:] for line in set(lines) - set(others)]
    assert any(tuple(example[: len(words)]) == words for example in shown)
    for example in shown:
        make_parser().parse_args(example)
