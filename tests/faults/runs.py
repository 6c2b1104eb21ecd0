"""Works that record a path, write checkpoints, or are a whole run; each writes `folder/scope`."""

import warnings
from pathlib import Path

import torch

from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from tests.faults.looking import Found, digest, everything
from tests.session.common import attach, settings
from tests.toy import ToyHost


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
