"""The works that are interrupted: what they need, do, and what may be there at any moment.

Each writes below `folder/scope` only. `accepted` answers what can be read now, by name, as digests
of what was read: errors of ours count as "not there", any other one is a fault.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disback_plugin.errors import DisBackError
from tests.faults import commands, runs
from tests.faults.injection import Injector
from tests.faults.looking import Found, everything, nodes


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


LAB = ("torch._dynamo", "tests.lab.trainer.conftest")
LMDB = ("lmdb", "disback_plugin.lab.data", "tqdm")
PATCHING = ("tests.patching.test_checkout",)
EDM = ("tests.pretrained.files", "disback_plugin.pretrained")
CM = (*EDM, "diffusers", "diffusers.pipelines.consistency_models", "diffusers.models.unets.unet_2d")
WORKS = {
    "recording": Work(runs.nothing, runs.record, nodes, runs.recorded, warm=("torch._dynamo",)),
    "checkpoints": Work(
        lambda f: runs.save(f, 1, 2), lambda f: runs.save(f, 3), runs.latest, runs.next_saved
    ),
    "path import": Work(commands.published, commands.import_path, commands.imported),
    "path convert": Work(commands.path_of_deltas, commands.convert_path, commands.imported),
    "convert edm-pkl": Work(
        commands.edm_pickle, commands.convert_edm, commands.edm_converted, warm=EDM
    ),
    "convert edm-pkl --force": Work(
        commands.edm_with_older,
        lambda f: commands.convert_edm(f, ("--force",)),
        commands.edm_converted,
        warm=EDM,
    ),
    "data lmdb": Work(commands.images, commands.make_lmdb, commands.lmdb_rows, warm=LMDB),
    "data lmdb --force": Work(
        commands.images_and_lmdb,
        lambda f: commands.make_lmdb(f, ("--force",)),
        commands.lmdb_rows,
        warm=LMDB,
    ),
    "apply": Work(
        commands.checkout,
        lambda f: commands.apply(f, "close", "guard"),
        commands.reverted,
        warm=PATCHING,
    ),
    "apply another choice": Work(
        commands.patched_checkout,
        lambda f: commands.apply(f, "guard"),
        commands.reverted,
        warm=PATCHING,
    ),
    "revert": Work(commands.patched_checkout, commands.revert, commands.reverted, warm=PATCHING),
    "convert cm": Work(
        commands.openai, commands.convert_cm, commands.cm_converted, warm=CM, quick=False, most=12
    ),
    "run": Work(runs.nothing, runs.run, lambda f: {}, runs.trained, warm=LAB, quick=False, most=12),
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
