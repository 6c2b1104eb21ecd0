"""`disback HOST apply|status|revert` on checkouts, of the real hosts and of the small ones."""

import ast
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from disback_plugin.cli import main
from tests.adapters.conftest import host_class

pytest.importorskip("libcst")


class Told(NamedTuple):
    """What a host's command says, and which files its patches rely on without changing them."""

    name: str
    command: str
    title: str
    release: str
    relied_on: set[str]

    @property
    def host(self) -> Any:
        return host_class(self.name)


EDM = {f"main/edm/edm_{part}.py" for part in ("guidance", "network", "unified_model")}
SD = {"main/sd_image_dataset.py", "main/sd_unet_forward.py"}
EDM_TREE = {"torch_utils/training_stats.py", "training/dataset.py", "training/networks.py"}
HOSTS = (
    Told("dmd2", "dmd2", "DMD2", "tianweiy/DMD2 at 8d8fa55", EDM | SD),
    Told(
        *("diff_instruct", "diff-instruct", "Diff-Instruct"),
        *("pkulwj1994/diff_instruct at 0c37389", EDM_TREE),
    ),
    Told(*("swiftbrush", "swiftbrush", "SwiftBrush", "VinAIResearch/SwiftBrush at 686c231"), set()),
)
hosts = pytest.mark.parametrize("told", HOSTS, ids=lambda told: told.name)


def contents(tree: Path) -> dict[str, bytes]:
    files = (file for file in sorted(tree.rglob("*")) if file.is_file())
    return {str(file.relative_to(tree)): file.read_bytes() for file in files}


@hosts
@pytest.mark.parametrize("real", [True, False], ids=["real", "small"])
def test_all_patches_apply_and_revert_restores_every_byte(
    told: Told, real: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patches = told.host.patches.PATCHES
    copy = told.host.copy(told.host.tree(real), tmp_path / "copy")

    def run(action: str, *options: str) -> str:
        assert main([told.command, action, str(copy), *options]) == 0
        return capsys.readouterr().out

    before = contents(copy)
    if real:
        assert ".git" not in {Path(name).parts[0] for name in before}  # known by its files alone
        shown = run("status")
        assert f": {told.title} ({told.release})" in shown
        assert shown.count("  applicable  ") == len(patches)
    run("apply", *([] if real else ["--force"]))
    after = contents(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {file for patch in patches for file in patch.files}
    for name in changed:
        ast.parse(after[name])
    run("apply")
    assert contents(copy) == after
    assert run("status").count("  applied  ") == len(patches)
    run("revert")
    assert contents(copy) == before


@hosts
def test_a_changed_file_is_named_also_one_that_no_patch_changes(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = told.host.copy(told.host.checkout(), tmp_path / "copy")
    for name in told.host.patches.KNOWN_TREE:
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b"# mine\n")
        found = told.host.patches.checkout(copy).differences()
        assert [str(problem) for problem in found] == [f"{name} is not the known release's"]
        (copy / name).write_bytes(before)
    for name in (told.host.patches.PATCHES[0].files[0], *told.relied_on)[:2]:
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b"# mine\n")
        assert main([told.command, "apply", str(copy)]) == 2
        fit = f"all {len(told.host.patches.PATCHES)} patches still fit: apply --force"
        assert capsys.readouterr().err == f"disback: error: {copy}: you edited {name}; {fit}\n"
        (copy / name).write_bytes(before)
    assert main([told.command, "status", str(copy)]) == 0


@hosts
def test_an_unknown_tree_and_one_that_is_no_checkout_are_refused(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = told.host.copy(told.host.tree(False), tmp_path / "copy")
    assert main([told.command, "apply", str(copy)]) == 2
    message = capsys.readouterr().err
    assert "not the known release's; " in message
    assert f"all {len(told.host.patches.PATCHES)} patches still fit: apply --force" in message
    (copy / told.host.patches.PATCHES[0].files[0]).unlink()
    for folder in (copy, tmp_path):
        assert main([told.command, "apply", str(folder), "--force"]) == 2
        assert f"is no checkout of {told.title}" in capsys.readouterr().err


@hosts
def test_every_file_is_known_and_patches_are_few_lines_with_names_of_their_own(told: Told) -> None:
    ours = told.host.patches
    patched = {file for patch in ours.PATCHES for file in patch.files}
    assert set(ours.KNOWN_TREE) == patched | told.relied_on
    names = [patch.name for patch in ours.PATCHES]
    assert len(set(names)) == len(names)
    assert {patch.kind for patch in ours.REPAIRS} == {"repair"}
    assert {patch.kind for patch in ours.FEATURES} == {"feature"}
    for patch in ours.PATCHES:
        for edit in patch.edits:
            assert getattr(edit, "code", "").count("\n") < 3, f"{patch.name}: logic is ours to keep"
