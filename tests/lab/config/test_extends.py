from pathlib import Path

import pytest

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.extends import read_extended


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


def test_sections_are_merged_and_all_else_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write(
        tmp_path,
        first="name: a\nteacher: {file: x, options: {a: 1, b: 2}}\nlevels: [1, 2]\nkept: 3",
        second="extends: first.yaml\nname: b\nteacher: {options: {b: 5}, file: null}",
    )
    write(tmp_path / "other", third="extends: ../second.yaml\nlevels: [7]\nteacher: {more: 1}")
    assert read_extended(tmp_path / "other" / "third.yaml") == {
        "name": "b",
        "teacher": {"file": None, "options": {"a": 1, "b": 5}, "more": 1},
        "levels": [7],
        "kept": 3,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: own.yaml", "leads back to itself"),
        ("extends: [own.yaml]", "give the name of a config beside it"),
        ("extends: none.yaml", "no such config file: .*none.yaml"),
    ],
)
def test_what_cannot_be_extended_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, own=text)
    with pytest.raises(ConfigError, match=message):
        read_extended(tmp_path / "own.yaml")
