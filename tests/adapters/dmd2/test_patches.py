"""`disback dmd2`: the patches in a checkout, DMD2's own and the small host's."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from disback_plugin.cli import main
from dmd2_patches import FEATURES, KNOWN_TREE, PATCHES, REPAIRS
from tests.adapters.dmd2.host import ROOT, SMALL_HOST, copy_checkout

pytest.importorskip("libcst")


def contents(tree: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(tree)): file.read_bytes()
        for file in sorted(tree.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def copy(upstream: Path, tmp_path: Path) -> Path:
    return copy_checkout(upstream, tmp_path / "DMD2")


def test_all_patches_apply_to_dmd2_and_revert_restores_every_byte(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy)
    assert main(["dmd2", "apply", str(copy)]) == 0
    after = contents(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {file for patch in PATCHES for file in patch.files}
    for name in changed:
        ast.parse(after[name])
    assert main(["dmd2", "apply", str(copy)]) == 0
    assert contents(copy) == after
    capsys.readouterr()
    assert main(["dmd2", "status", str(copy)]) == 0
    assert capsys.readouterr().out.count("  applied  ") == len(PATCHES)
    assert main(["dmd2", "revert", str(copy)]) == 0
    assert contents(copy) == before


def test_dmd2_without_its_history_is_known_and_a_changed_one_is_not(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (copy / ".git").exists()
    assert main(["dmd2", "status", str(copy)]) == 0
    script = copy / "main" / "train_sd.py"
    script.write_bytes(script.read_bytes() + b"\n")
    assert main(["dmd2", "status", str(copy)]) == 1
    assert main(["dmd2", "apply", str(copy)]) == 2
    assert "main/train_sd.py is not the known release's" in capsys.readouterr().err
    assert main(["dmd2", "apply", str(copy), "--force"]) == 0
    capsys.readouterr()
    assert main(["dmd2", "status", str(copy)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": unknown tree, accepted by --force")
    assert lines[1] == "  main/train_sd.py is not the known release's, but was accepted"


RELIED_ON = (
    *(f"main/edm/edm_{name}.py" for name in ("guidance", "network", "unified_model")),
    *("main/sd_image_dataset.py", "main/sd_unet_forward.py"),
)


def test_files_that_the_patches_rely_on_are_known_too(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in RELIED_ON:
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b"# mine\n")
        assert main(["dmd2", "apply", str(copy)]) == 2
        message = capsys.readouterr().err
        assert f": {name} is not the known release's" in message
        assert "--force" in message
        (copy / name).write_bytes(before)
    assert main(["dmd2", "status", str(copy)]) == 0


def test_every_patched_file_is_known() -> None:
    patched = {file for patch in PATCHES for file in patch.files}
    assert set(KNOWN_TREE) == patched | set(RELIED_ON)


@pytest.fixture
def small_copy(tmp_path: Path) -> Path:
    return copy_checkout(SMALL_HOST, tmp_path / "small")


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


def test_a_folder_that_is_no_checkout_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dmd2", "apply", str(tmp_path)]) == 2
    assert "is no checkout of DMD2" in capsys.readouterr().err
    shutil.rmtree(tmp_path)


def test_patches_have_names_of_their_own_and_insert_few_lines() -> None:
    names = [patch.name for patch in PATCHES]
    assert len(set(names)) == len(names)
    assert {patch.kind for patch in REPAIRS} == {"repair"}
    assert {patch.kind for patch in FEATURES} == {"feature"}
    for patch in PATCHES:
        for edit in patch.edits:
            assert getattr(edit, "code", "").count("\n") < 3, f"{patch.name}: logic is ours to keep"
