"""docs/troubleshooting.md quotes messages that the package really has."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"


def messages() -> str:
    """All strings of the package, a line each; what is filled in stands as {}."""
    found = []
    for file in sorted((ROOT / "disback_plugin").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
                ]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[-.\d]*[sdgr]", "{}", node.value))
    return "\n".join(found)


def quoted() -> list[str]:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


@pytest.fixture(scope="module")
def text() -> str:
    return messages()


def test_messages_are_quoted() -> None:
    assert len(quoted()) > 30


@pytest.mark.parametrize("message", quoted())
def test_every_quoted_message_is_one_of_ours(message: str, text: str) -> None:
    pieces = [re.escape(piece.strip()) for piece in re.split(r"\.\.\.|\bN\b", message)]
    pattern = r".{0,80}?".join(piece for piece in pieces if piece)
    assert re.search(pattern, text), f"no string of the package has {message!r}"
