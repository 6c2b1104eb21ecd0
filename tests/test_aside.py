"""A folder that is built aside is whole or absent, whatever interrupts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from disback_plugin.aside import built_aside
from disback_plugin.errors import ConfigError

KILLED = """
import os, signal, sys
from pathlib import Path
import disback_plugin.aside as aside
at, folder = sys.argv[1], Path(sys.argv[2])
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if at.startswith("replace"):
    left, replace = [int(at[7:])], os.replace
    def counted(*paths):
        if left[0] == 0: die()
        left[0] -= 1
        replace(*paths)
    aside.os.replace = counted
with aside.built_aside(folder, force=True) as build:
    (build / "a").write_text("new")
    if at == "write": die()
"""


def write(folder: Path, text: str, force: bool = False) -> None:
    with built_aside(folder, force) as build:
        (build / "a").write_text(text)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(OSError, match="full"), built_aside(tmp_path / "out", True) as build:
        (build / "a").write_text("half")
        raise OSError("full")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_files_that_the_new_folder_does_not_have_are_never_removed(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    (tmp_path / "out" / "mine").mkdir()
    (tmp_path / "out" / "mine" / "thesis").write_text("x")
    with pytest.raises(ConfigError, match="holds other files, which are not removed .mine/thesis."):
        write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("at", ["write", "replace0", "replace1"])
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_loses_nothing_and_leaves_nothing_to_the_next_try(
    at: str, before: bool, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if before:
        write(out, "old")
    ended = subprocess.run([sys.executable, "-c", KILLED, at, str(out)], check=False)
    assert ended.returncode == (0 if at == "replace1" and not before else -9)
    assert (os.listdir(tmp_path) == ["out"]) == (ended.returncode == 0)
    with pytest.raises(ConfigError, match="exists and is not empty") if before else _nothing():
        write(out, "later", force=not before)
    assert os.listdir(tmp_path) == ["out"]
    assert (out / "a").read_text() == ("old" if before else "later")


def _nothing():
    from contextlib import nullcontext

    return nullcontext()
