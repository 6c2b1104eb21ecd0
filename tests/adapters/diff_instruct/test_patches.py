"""`disback diff-instruct`: the patches in a checkout, the real one's and the small host's."""

import ast
from pathlib import Path

import pytest

from diff_instruct_patches import FEATURES, KNOWN_TREE, PATCHES, REPAIRS
from disback_plugin.cli import main
from tests.adapters.diff_instruct.host import SMALL_HOST, copy_checkout

RELIED_ON = {"torch_utils/training_stats.py", "training/dataset.py", "training/networks.py"}


def contents(tree: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(tree)): file.read_bytes()
        for file in sorted(tree.rglob("*"))
        if file.is_file()
    }


def applied_and_reverted(copy: Path, *options: str) -> None:
    before = contents(copy)
    assert main(["diff-instruct", "apply", str(copy), *options]) == 0
    after = contents(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {file for patch in PATCHES for file in patch.files}
    for name in changed:
        ast.parse(after[name])
    assert main(["diff-instruct", "apply", str(copy)]) == 0
    assert contents(copy) == after
    assert main(["diff-instruct", "revert", str(copy)]) == 0
    assert contents(copy) == before


def test_all_patches_apply_to_diff_instruct_and_revert_restores_every_byte(
    upstream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_checkout(upstream, tmp_path / "copy")
    assert main(["diff-instruct", "status", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert ": Diff-Instruct (pkulwj1994/diff_instruct at 0c37389)" in shown
    assert shown.count("  applicable  ") == len(PATCHES)
    applied_and_reverted(copy)


def test_all_patches_apply_to_the_small_host(tmp_path: Path) -> None:
    applied_and_reverted(copy_checkout(SMALL_HOST, tmp_path / "copy"), "--force")


def test_a_changed_tree_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = copy_checkout(SMALL_HOST, tmp_path / "copy")
    assert main(["diff-instruct", "apply", str(copy)]) == 2
    assert "training/networks.py is not the known release's" in capsys.readouterr().err
    (copy / "training" / "di_loss.py").unlink()
    assert main(["diff-instruct", "apply", str(copy), "--force"]) == 2
    assert "is no checkout of Diff-Instruct" in capsys.readouterr().err


def test_every_patched_file_is_known_and_patches_are_few_lines_with_names_of_their_own() -> None:
    assert set(KNOWN_TREE) == {file for patch in PATCHES for file in patch.files} | RELIED_ON
    names = [patch.name for patch in PATCHES]
    assert len(set(names)) == len(names)
    assert {patch.kind for patch in REPAIRS} == {"repair"}
    assert {patch.kind for patch in FEATURES} == {"feature"}
    for patch in PATCHES:
        for edit in patch.edits:
            assert getattr(edit, "code", "").count("\n") < 3, f"{patch.name}: logic is ours to keep"
