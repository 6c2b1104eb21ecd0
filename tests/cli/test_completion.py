"""`disback completion`: the script is loaded by a real bash and asked for words."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from disback_plugin.cli import main

pytest.importorskip("shtab")
# bash asks a completion's function so: the words, which of them, and an array for the answers
ASK = """
source {script}
COMP_WORDS=({words} "{begun}"); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
function=$(complete -p disback | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function disback "{begun}" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    command = [sys.executable, "-m", "disback_plugin", "completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    file = tmp_path_factory.mktemp("completion") / "disback"
    file.write_text(done.stdout)
    return file


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ("disback", "sta", ["status"]),
        ("disback", "diff", ["diff-instruct"]),
        ("disback path", "re", ["repair"]),
        ("disback run", "--se", ["--seeds"]),
        ("disback run --arm", "wa", ["warm"]),
        ("disback dmd2 apply", "--f", ["--force"]),
        ("disback report", "mine", ["mine.yaml"]),
    ],
)
def test_bash_completes(
    script: Path, words: str, begun: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").touch()
    text = ASK.format(script=script, words=words, begun=begun)
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == expected


def test_a_missing_shtab_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 2
    expected = "completion needs shtab: pip install 'disback_plugin[completion]'"
    assert expected in capsys.readouterr().err
