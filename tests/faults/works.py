"""The works that are interrupted: what they need, do, and what may be there at any moment.

Each writes below `folder/scope` only. `accepted` answers what can be read now, by name, as digests
of what was read: errors of ours count as "not there", any other one is a fault.
"""

import contextlib
import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from disback_plugin import DegradationPath
from disback_plugin.cli import main
from disback_plugin.errors import DisBackError
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from tests.faults.injection import Injector
from tests.hosts.toy import ToyHost
from tests.session.common import attach, settings

Found = dict[str, str]


@dataclass(frozen=True)
class Work:
    """`prepare(folder)`, then `act(folder)`, which may be interrupted; `result` compares ends."""

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    accepted: Callable[[Path], Found]
    result: Callable[[Path], Found] | None = None
    warm: tuple[str, ...] = ()
    quick: bool = True
    most: int | None = None  # calls to interrupt, where each takes long


class RefusedError(DisBackError):
    """A command has ended with an error of ours."""


def command(*words: object) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    if code:
        raise RefusedError(said.getvalue())


def digest(data: Any) -> str:
    if isinstance(data, dict):
        parts = [f"{name} {digest(value)}" for name, value in sorted(data.items())]
        data = "\n".join(parts).encode()
    if isinstance(data, torch.Tensor):
        data = f"{data.dtype}{tuple(data.shape)}".encode() + data.contiguous().numpy().tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def everything(folder: Path) -> Found:
    """Every file and folder below scope."""
    return {
        str(file.relative_to(folder)): digest(file.read_bytes()) if file.is_file() else "folder"
        for file in sorted((folder / "scope").rglob("*"))
    }


def read(name: str, work: Callable[[], Any]) -> Found:
    """What was read under that name, nothing where that is an error of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = work()
    except DisBackError:
        return {}
    return {} if found is None else {name: digest(found)}


def nothing(folder: Path) -> None:
    pass


# -- recording a path, with a host that has checkpoints of its own -------------------------------
def record(folder: Path) -> None:
    host, saved = ToyHost(), folder / "host.pt"
    disback = attach(host, settings(folder / "scope", record={"num_steps": 6, "at": (2, 4, 6)}))
    begin = 0
    if saved.exists():
        data = torch.load(saved, weights_only=False)
        for name, role in host.roles.items():
            role.load_state_dict(data[name])
        host.fake_optimizer.load_state_dict(data["fake_optimizer"])
        host.student_optimizer.load_state_dict(data["student_optimizer"])
        disback.load_state_dict(data["state"])
        begin = data["step"]
    for step in range(begin, 9):
        host.run(disback, range(step, step + 1))
        data = {name: role.state_dict() for name, role in host.roles.items()}
        data |= {"state": disback.state_dict(), "step": step + 1}
        data["fake_optimizer"] = host.fake_optimizer.state_dict()
        data["student_optimizer"] = host.student_optimizer.state_dict()
        torch.save(data, folder / "host.new")
        (folder / "host.new").replace(saved)
    (folder / "end.txt").write_text(digest(dict(host.student.state_dict())))


def nodes(folder: Path) -> Found:
    """The listed nodes of scope/path; `verify` may tell leftovers, but no damage."""
    try:
        path = DegradationPath.open(folder / "scope" / "path", None)
    except DisBackError:
        return {}
    assert [line for line in path.verify() if "left behind" not in line] == []
    return {entry.file: digest(path.read(entry.index)) for entry in path}


def recorded(folder: Path) -> Found:
    return everything(folder) | {"student": (folder / "end.txt").read_text()}


# -- checkpoints of a run ------------------------------------------------------------------------
def save(folder: Path, *steps: int) -> None:
    checkpoints = CheckpointFolder(folder / "scope" / "checkpoints", keep=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        latest = checkpoints.latest()
    for step in steps:
        if latest is None or latest.step < step:
            tensors = {"student": {"w": torch.full((50,), step)}, "fake": {"w": torch.ones(step)}}
            checkpoints.save(Checkpoint(step, {"seconds": step}, tensors))


def latest(folder: Path) -> Found:
    """The newest checkpoint is one that was written, bit for bit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = CheckpointFolder(folder / "scope" / "checkpoints", keep=2).latest()
    assert found is not None, "no checkpoint is left"
    student, fake = found.tensors["student"]["w"], found.tensors["fake"]["w"]
    assert torch.equal(student, torch.full((50,), found.step))
    assert torch.equal(fake, torch.ones(found.step))
    assert found.state == {"seconds": found.step}
    return {f"{step} or later": "" for step in range(1, found.step + 1)}


def next_saved(folder: Path) -> Found:
    """The next checkpoint prunes what is left."""
    save(folder, 4)
    return everything(folder)


# -- whole runs ----------------------------------------------------------------------------------
def run(folder: Path) -> None:
    from disback_plugin.lab.trainer import run_experiment
    from tests.lab.trainer.conftest import tiny_config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_experiment(tiny_config(), folder / "scope" / "out", ["disback"], resume=True)


def trained(folder: Path) -> Found:
    """What a run ends with; clocks, and what tells of them, differ."""
    timed = ("metrics.jsonl", "experiment.json", "state.json", "manifest.json", "speed.json")
    found = everything(folder)
    return {name: "" if name.endswith(timed) else value for name, value in found.items()}


# -- import and conversion -----------------------------------------------------------------------
def published(folder: Path) -> None:
    from safetensors.torch import save_file

    from tests.hosts.toy import network, tensors_of
    from tests.path.test_published import guidance_model, write

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
    """A path of an import is there with all its nodes, or not at all."""
    found = nodes(folder)
    assert len(found) in (0, 2), f"a part of an import is accepted: {sorted(found)}"
    return found


def edm_pickle(folder: Path) -> None:
    from tests.pretrained.files import write_edm_pickle

    write_edm_pickle(folder / "edm.pkl")


def convert_edm(folder: Path, force: tuple[str, ...] = ()) -> None:
    target = folder / "scope" / "edm.safetensors"
    if force or not target.exists():
        command("convert", "edm-pkl", folder / "edm.pkl", target, *force)


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
    from disback_plugin.pretrained.consistency.pipeline import load_pipeline

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


LAB, LMDB = (
    ("torch._dynamo", "tests.lab.trainer.conftest"),
    ("lmdb", "disback_plugin.lab.data", "tqdm"),
)
PATCHING = ("tests.patching.test_checkout",)
EDM = ("tests.pretrained.files", "disback_plugin.pretrained")
CM = (*EDM, "diffusers", "diffusers.pipelines.consistency_models", "diffusers.models.unets.unet_2d")
WORKS = {
    "recording": Work(nothing, record, nodes, recorded, warm=("torch._dynamo",)),
    "checkpoints": Work(lambda f: save(f, 1, 2), lambda f: save(f, 3), latest, next_saved),
    "path import": Work(published, import_path, imported),
    "convert edm-pkl": Work(edm_pickle, convert_edm, edm_converted, warm=EDM),
    "convert edm-pkl --force": Work(
        edm_with_older, lambda f: convert_edm(f, ("--force",)), edm_converted, warm=EDM
    ),
    "data lmdb": Work(images, make_lmdb, lmdb_rows, warm=LMDB),
    "data lmdb --force": Work(
        images_and_lmdb, lambda f: make_lmdb(f, ("--force",)), lmdb_rows, warm=LMDB
    ),
    "apply": Work(checkout, lambda f: apply(f, "close", "guard"), reverted, warm=PATCHING),
    "apply another choice": Work(
        patched_checkout, lambda f: apply(f, "guard"), reverted, warm=PATCHING
    ),
    "revert": Work(patched_checkout, revert, reverted, warm=PATCHING),
    "convert cm": Work(openai, convert_cm, cm_converted, warm=CM, quick=False),
    "run": Work(nothing, run, lambda f: {}, trained, warm=LAB, quick=False, most=40),
}


# -- steps, each in a fork of its own ------------------------------------------------------------
def prepare(name: str, folder: str) -> None:
    (Path(folder) / "scope").mkdir(parents=True)
    WORKS[name].prepare(Path(folder))


def act(name: str, folder: str, fault: str, at: int) -> dict[str, Any]:
    """The calls that changed something, and the error that it ended with, in words."""
    injector = Injector(Path(folder) / "scope", fault, at)
    injector.install()
    error = ""
    try:
        WORKS[name].act(Path(folder))
    except (DisBackError, OSError) as refused:
        error = str(refused)
        if not error:
            raise
    return {"calls": injector.calls, "error": error}


def look(name: str, folder: str) -> Found:
    return WORKS[name].accepted(Path(folder))


def finish(name: str, folder: str) -> dict[str, Found]:
    """What is accepted now, then the work again, without a fault, and its result."""
    found = look(name, folder)
    WORKS[name].act(Path(folder))
    return {"found": found, "end": (WORKS[name].result or everything)(Path(folder))}
