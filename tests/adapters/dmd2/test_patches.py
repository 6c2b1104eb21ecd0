"""`disback dmd2`: a choice of repairs, the diff, a tree that is accepted by force."""

import subprocess
import sys
from pathlib import Path

import pytest

from disback_plugin.cli import main
from dmd2_patches import FEATURES, REPAIRS
from tests.adapters.dmd2.host import ROOT, copy_checkout
from tests.adapters.test_patches import contents

pytest.importorskip("libcst")


def test_a_changed_tree_is_patched_by_force_only_and_said_to_be_accepted(
    upstream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_checkout(upstream, tmp_path / "DMD2")
    script = copy / "main" / "train_sd.py"
    script.write_bytes(script.read_bytes() + b"\n")
    assert main(["dmd2", "status", str(copy)]) == 1
    assert main(["dmd2", "apply", str(copy), "--force"]) == 0
    capsys.readouterr()
    assert main(["dmd2", "status", str(copy)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": unknown tree, accepted by --force")
    assert lines[1] == "  main/train_sd.py is not the known release's, but was accepted"


def test_repairs_are_chosen_by_name(small_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apply = ["dmd2", "apply", str(small_copy), "--force", "--repairs"]
    assert main([*apply, "wandb-mode,dataloader-config"]) == 0
    capsys.readouterr()
    main(["dmd2", "status", str(small_copy)])
    lines = capsys.readouterr().out.splitlines()
    applied = {line.split()[2] for line in lines if line.startswith("  applied ")}
    assert {"wandb-mode", "dataloader-config"} <= applied
    assert "matplotlib-canvas" not in applied
    assert main([*apply, "none"]) == 0
    assert "DataLoaderConfiguration" not in (small_copy / "main" / "train_sd.py").read_text()
    assert main([*apply, "wandb"]) == 2
    assert "did you mean 'wandb-mode'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "empty name; all, none, or names: "),
        (" ", "empty name; all, none, or names: "),
        ("wandb-mode,", "empty name; all, none, or names: "),
        ("all,wandb-mode", "'all' and 'none' stand alone"),
        ("none, all", "'all' and 'none' stand alone"),
    ],
)
def test_a_choice_of_repairs_that_means_nothing_is_refused(
    small_copy: Path, capsys: pytest.CaptureFixture[str], given: str, message: str
) -> None:
    before = contents(small_copy)
    assert main(["dmd2", "apply", str(small_copy), "--force", "--repairs", given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "empty" not in message or all(patch.name in error for patch in REPAIRS)
    assert contents(small_copy) == before


def test_blanks_and_repetitions_in_a_choice_of_repairs_do_not_count(
    small_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = " wandb-mode, dataloader-config ,wandb-mode"
    assert main(["dmd2", "apply", str(small_copy), "--force", "--repairs", given]) == 0
    end = f"{2 + len(FEATURES)} patches applied"
    assert capsys.readouterr().out.splitlines()[-1].endswith(end)
    assert main(["dmd2", "apply", str(small_copy), "--repairs", " all "]) == 0


@pytest.mark.parametrize(("action", "code"), [("diff", 0), ("status", 1)])
def test_a_reader_that_stops_early_is_no_error(small_copy: Path, action: str, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "disback_plugin", "dmd2", action, str(small_copy)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as `| head` does
    assert process.stderr.read() == b""
    assert process.wait() == code


def test_the_diff_shows_what_apply_does(
    small_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(small_copy)
    assert main(["dmd2", "diff", str(small_copy), "--repairs", "none"]) == 0
    shown = capsys.readouterr().out
    assert contents(small_copy) == before
    assert "+        self.disback.close()  # disback" in shown
    assert "DataLoaderConfiguration" not in shown
