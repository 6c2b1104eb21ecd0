"""Works that are commands: import, conversions, LMDB, patches; each writes `folder/scope`."""

import shutil
from pathlib import Path

import numpy as np
import torch

from disback_plugin import DegradationPath
from disback_plugin.errors import DisBackError
from tests.faults.looking import Found, RefusedError, command, digest, nodes, read


# -- import and conversion -----------------------------------------------------------------------
def published(folder: Path) -> None:
    from safetensors.torch import save_file

    from tests.adapters.dmd2.test_published import guidance_model, write
    from tests.toy import network, tensors_of

    for step in (50, 100):
        write(folder, step, guidance_model(step))
    save_file(tensors_of(network(1)), folder / "teacher.safetensors")


def import_path(folder: Path) -> None:
    words = ("--teacher", folder / "teacher.safetensors", "--out", folder / "scope" / "path")
    folders = sorted(folder.glob("checkpoint_model_*"))
    if not is_complete_path(folder / "scope" / "path"):
        command("path", "import", *folders, *words)


def is_complete_path(folder: Path) -> bool:
    try:
        return DegradationPath.open(folder).complete
    except DisBackError:
        return False


def imported(folder: Path) -> Found:
    """The path that was imported or converted is there with all its nodes, or not at all."""
    found = nodes(folder)
    assert len(found) in (0, 2), f"a part of a path is accepted: {sorted(found)}"
    return found


def path_of_deltas(folder: Path) -> None:
    from tests.toy import network, tensors_of

    teacher = tensors_of(network(1))
    path = DegradationPath.create(folder / "deltas", teacher, codec="delta", keep_teacher=True)
    for step in (1, 2):
        node = {k: v + step * 1e-3 if v.is_floating_point() else v for k, v in teacher.items()}
        path.append(node, step)
    path.finish()


def convert_path(folder: Path) -> None:
    target = folder / "scope" / "path"
    if not is_complete_path(target):
        command("path", "convert", folder / "deltas", target, "--codec", "full")


def edm_pickle(folder: Path) -> None:
    from tests.pretrained.files import write_edm_pickle

    write_edm_pickle(folder / "edm.pkl")


def convert_edm(folder: Path, force: tuple[str, ...] = ()) -> None:
    target = folder / "scope" / "edm.safetensors"
    done = target.exists() and not force
    try:
        command("convert", "edm-pkl", folder / "edm.pkl", target, *force)
    except RefusedError:
        if not done:
            raise


def edm_with_older(folder: Path) -> None:
    from tests.pretrained.files import write_edm

    edm_pickle(folder)
    write_edm(folder / "scope" / "edm.safetensors", "ddpmpp-both-labels")
    file = folder / "scope" / "edm.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\x00\x00\x00\x00")


def edm_converted(folder: Path) -> Found:
    from disback_plugin.pretrained.edm.checkpoint import read_edm_safetensors

    file = folder / "scope" / "edm.safetensors"
    if not file.exists():
        return {}
    found = read("edm", lambda: read_edm_safetensors(file).tensors)
    assert found, "a torn file has the name of a whole one"
    return {f"edm {found['edm']}": ""}


def openai(folder: Path) -> None:
    from tests.pretrained.files import write_openai

    write_openai(folder / "cd_tiny.pt")


def convert_cm(folder: Path) -> None:
    target = folder / "scope" / "cm"
    sizes = ("--num-head-channels", 16, "--resolution", 8)
    if not read("cm", lambda: consistency(target)):
        command("convert", "cm", folder / "cd_tiny.pt", target, *sizes)


def consistency(target: Path) -> dict[str, torch.Tensor]:
    from disback_plugin.pretrained.consistency.opening import load_pipeline

    return dict(load_pipeline(target).state_dict())


def cm_converted(folder: Path) -> Found:
    return read("cm", lambda: consistency(folder / "scope" / "cm"))


# -- LMDB ----------------------------------------------------------------------------------------
def images(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 5, 5, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels, labels=np.arange(12) % 3)


def images_and_lmdb(folder: Path) -> None:
    images(folder)
    command("data", "lmdb", folder / "images.npz", folder / "scope" / "out", "--limit", 4)


def make_lmdb(folder: Path, force: tuple[str, ...] = ()) -> None:
    out = folder / "scope" / "out"
    if force or not out.exists():
        command("data", "lmdb", folder / "images.npz", out, *force)


def lmdb_rows(folder: Path) -> Found:
    from disback_plugin.lab.data import ImageLMDB

    if not (folder / "scope" / "out").exists():
        return {}
    data = ImageLMDB(folder / "scope" / "out").load()
    return {f"{len(data.samples)} rows {digest(data.samples)}": ""}


# -- patches -------------------------------------------------------------------------------------
def checkout(folder: Path) -> None:
    from tests.patching.test_checkout import FIRST, SECOND

    (folder / "scope" / "sub").mkdir()
    (folder / "scope" / "a.py").write_bytes(FIRST)
    (folder / "scope" / "sub" / "b.py").write_bytes(SECOND)


def patched_checkout(folder: Path) -> None:
    checkout(folder)
    apply(folder, "close", "guard")


def apply(folder: Path, *names: str) -> None:
    from tests.patching.test_checkout import open_tree

    open_tree(folder / "scope").apply(names)


def revert(folder: Path) -> None:
    from tests.patching.test_checkout import open_tree

    open_tree(folder / "scope").revert()


def reverted(folder: Path) -> Found:
    """At any moment a copy can be reverted to the very bytes of the host."""
    from tests.patching.test_checkout import FIRST, SECOND, open_tree

    copy = folder / "copy"
    shutil.copytree(folder / "scope", copy)
    tree = open_tree(copy)
    states = {state.state for state in tree.status()}
    assert states <= {"applied", "applicable"}, states
    tree.revert()
    files = {str(file.relative_to(copy)): file for file in copy.rglob("*") if file.is_file()}
    assert sorted(files) == ["a.py", "sub/b.py"], sorted(files)
    assert (files["a.py"].read_bytes(), files["sub/b.py"].read_bytes()) == (FIRST, SECOND)
    shutil.rmtree(copy)
    return {}
