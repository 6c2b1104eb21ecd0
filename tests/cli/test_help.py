"""The help of every command, and of every action, ends with examples that can be run."""

import argparse
import re
import shlex

import pytest

from disback_plugin.cli.main import main, make_parser


def parsers(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """The parsers of the words of every command and of every action."""
    found = {words: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found |= parsers(inner, (*words, name))
    return found


def commands() -> list[tuple[str, ...]]:
    return [words for words in parsers(make_parser()) if words]


def helps() -> dict[tuple[str, ...], str]:
    return {words: parser.format_help() for words, parser in parsers(make_parser()).items()}


def test_actions_are_among_the_commands() -> None:
    known = commands()
    assert {("doctor",), ("path", "show"), ("convert", "cm"), ("dmd2", "revert")} < set(known)
    assert len(known) >= 30


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_ends_with_examples_that_parse(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    _, examples = capsys.readouterr().out.split("\nexamples:\n")
    whole = examples.rstrip("\n").replace(" \\\n      ", " ")  # long ones go on in the next line
    lines = [line.removeprefix("  ") for line in whole.split("\n")]
    others = [line for line in lines if not line.startswith("disback ")]
    assert all(line.startswith(("git clone ", "torchrun ", "python ")) for line in others)
    # two spaces begin a remark, a bar another program, an arrow its file
    shown = [
        shlex.split(re.split(r"\s{2,}|\||>", line)[0])[1:] for line in set(lines) - set(others)
    ]
    assert any(tuple(example[: len(words)]) == words for example in shown)
    for example in shown:
        make_parser().parse_args(example)


@pytest.mark.parametrize("columns", [80, 200])
def test_help_fits_80_columns_in_any_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [line for text in helps().values() for line in text.splitlines()]
    assert [line for line in lines if len(line) > 80] == []
    assert max(map(len, lines)) > 70  # and uses them


def test_help_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = [line for text in helps().values() for line in text.splitlines()]
    assert max(map(len, lines)) < 80


def test_every_option_that_takes_a_value_says_its_default() -> None:
    silent = []
    for words, parser in parsers(make_parser()).items():
        for action in parser._actions:
            told = parser._get_formatter()._get_help_string(action) or ""
            takes_value = action.option_strings and action.nargs != 0
            if takes_value and not re.search("default|required", told):
                silent.append((*words, action.option_strings[0]))
    assert silent == []


def test_a_default_is_the_parsers_own() -> None:
    text = helps()[("demo",)]
    assert "seeds 0..N-1 (default: 3)" in text
    assert "(default: disback-demo)" in text
    assert "kind: edm-pkl" in helps()[("inspect",)]  # what has no default is left as it is


@pytest.mark.parametrize(
    ("words", "message", "see"),
    [
        ("", "the following arguments are required: COMMAND", "disback"),
        ("rnu", "argument COMMAND: there is no 'rnu'; did you mean 'run'?", "disback"),
        (
            "run x.yaml --seedz 3",
            "unrecognized arguments: --seedz 3; did you mean '--seeds'?",
            "disback run",
        ),
        ("run x.yaml --seeds 0", "argument --seeds: '0' is not a number above 0", "disback run"),
        (
            "path convert a b",
            "the following arguments are required: --codec",
            "disback path convert",
        ),
        ("dmd2 apply", "the following arguments are required: CHECKOUT", "disback dmd2 apply"),
        ("doctor more", "unrecognized arguments: more", "disback doctor"),
    ],
)
def test_an_error_is_what_was_wrong_and_where_the_help_is(
    words: str, message: str, see: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"disback: error: {message}\nsee: {see} --help\n"
