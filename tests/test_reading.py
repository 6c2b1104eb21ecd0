"""Configs and other texts of strangers: bounded, each fault one error that names the file."""

import os
import re
import time
from pathlib import Path

import pytest

from disback_plugin.cli import main
from disback_plugin.config_base import StrictModel, read_yaml
from disback_plugin.errors import ConfigError, DisBackError
from disback_plugin.lab.config.experiment import apply_overrides
from disback_plugin.plain_yaml import parse_yaml
from disback_plugin.reading import cut, local_path, told

BOMB = "\n".join(
    f"l{level}: &l{level} [{','.join(['x' if level == 0 else f'*l{level - 1}'] * 10)}]"
    for level in range(9)
)
CONFIGS = {
    "a checkpoint": (
        b"\x80\x04pickle",
        "no text in UTF-8 .*0x80 at 0.*: give the experiment's config",
    ),
    "UTF-16": ("name: x".encode("utf-16"), "no text in UTF-8"),
    "UTF-16 without a mark": ("name: x".encode("utf-16-le"), "holds a NUL"),
    "large": (b"#" * 300_000, "has 300,000 bytes; at most"),
    "aliases": (BOMB.encode(), r", line \d: more than 100,000 values, aliases written out"),
    "an alias in itself": (b"a: &a\n  b: *a", ", line 1: an alias stands within"),
    "merges": (b"a: &a {k: v}\nb: &b {<<: [*a,*a]}\nb: 1", ", line 3: the key 'b' is given twice"),
    "depth": (b"[" * 60 + b"]" * 60, "nested more than 50 levels deep"),
    "great depth": (b"[" * 9000, "nested more than 50 levels deep|is not valid YAML"),
    "a tag": (b"a: !!python/object/apply:os.system [x]", "is not valid YAML"),
    "a date that is none": (b"a: 2024-02-31", "holds a value that YAML cannot read"),
    "a tag's wrong value": (b"a: !!timestamp x", "holds a value that YAML cannot read"),
    "a long integer": (b"a: " + b"9" * 5000, "holds a value that YAML cannot read"),
    "two documents": (b"a: 1\n---\nb: 2", "is not valid YAML"),
    "nothing": (b"", "Experiment|mapping|dictionary"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_is_none_is_told_shortly_and_quickly(tmp_path, case, capsys):
    content, message = CONFIGS[case]
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    start = time.monotonic()
    for command in ("run", "compare"):
        assert main([command, str(file)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"disback: error: {file}")
        assert len(error) < 3000
        assert re.search(message, error)
    assert time.monotonic() - start < 20


def test_aliases_and_merges_of_a_sensible_size_are_read():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]"
    assert parse_yaml(text, "here")["b"] == {"x": 3, "y": 2}


def test_an_override_changes_its_own_section_only_where_an_alias_shares_it():
    data = parse_yaml("a: &a {x: 1}\nb: *a", "here")
    assert apply_overrides(data, ["a.x=2"]) == {"a": {"x": 2}, "b": {"x": 1}}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "forbidden", "link"])
def test_what_is_no_file_is_no_config_and_nothing_waits_for_it(tmp_path, kind):
    file = tmp_path / "c.yaml"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "forbidden":
        file.write_text("a: 1")
        file.chmod(0)
    else:
        file.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    if kind == "forbidden" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    with pytest.raises(ConfigError, match=r"c\.yaml (is a|cannot be read: Permission)"):
        read_yaml(file)


class Settings(StrictModel):
    value: float = 0.0
    file: Path = Path("a")
    names: tuple[str, ...] = ()


def test_numbers_that_are_none_are_refused_and_long_values_cut():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="value: .*finite number"):
            Settings(value=value)
    with pytest.raises(ConfigError) as found:
        Settings(value="x" * 10**6, names=[[1] * 10**5] * 1000)
    assert len(str(found.value)) < 10_000
    assert "and 981 more" in str(found.value)
    with pytest.raises(ConfigError) as found:
        Settings(**{"k" * 10**5: 1})
    assert len(str(found.value)) < 1000


def test_paths_are_local(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path(Path("~/a")) == Settings(file="~/a").file == tmp_path / "a"
    with pytest.raises(ConfigError, match=r"file: https://x\.org/a is an address, no file here"):
        Settings(file="https://x.org/a")
    assert local_path(Path("~nobody-of-this-name/a")) == Path("~nobody-of-this-name/a")
    for wrong in ("https://x.org/a", "s3://a/b", "a\0b"):
        with pytest.raises(DisBackError, match=r"is an address|holds a NUL"):
            local_path(Path(wrong))


def test_messages_are_short_plain_and_give_no_unsafe_advice():
    assert cut("x" * 1000, 10) == "x" * 10 + "... (1,000 characters)"
    assert cut("a\x1b[2J\udcff") == r"a\x1b[2J\udcff"
    for advice in ("set allow_pickle=True", "use weights_only=False", "adjust `max_header_size`"):
        assert told(ValueError(advice)).startswith("it holds Python objects or code")
