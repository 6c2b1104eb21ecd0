"""Works x faults: whatever call kills or fails, nothing is lost, and the next try succeeds.

A cell of the table is a work and a fault, at the calls that change a file. A sample of the calls,
other ones for each fault, is part of the usual tests; `thorough` are kills at every call, a full
disk and a refused call at every second one, but for a whole run and `convert cm`, where each call
takes long: they have `Work.most` calls, evenly.
"""

import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.injection import DENIED, FULL, KILL, NEEDS_SPACE
from tests.faults.works import WORKS
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are told by /proc")
FAULTS = (KILL, FULL, DENIED)
SAMPLE = 2  # calls a cell


@pytest.fixture(scope="session")
def trials(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], "Trial"]:
    """A work by its name, prepared and done once without a fault."""
    return functools.cache(lambda name: Trial(zygote, name, tmp_path_factory.mktemp("work")))


class Trial:
    """One work in one folder, as often as there are calls to interrupt."""

    def __init__(self, zygote: Zygote, name: str, folder: Path) -> None:
        self.zygote, self.name = zygote, name
        self.folder, self.template = folder / "work", folder / "template"
        self._run("prepare", self.folder)
        self.folder.rename(self.template)
        self._copy()
        self.before = self._run("look", self.folder)
        done = self._run("act", self.folder, "", 0)
        assert not done["error"], done["error"]
        self.calls, self.after = done["calls"], self._run("look", self.folder)
        self.expected = self._run("finish", self.folder)["end"]

    def interrupted(self, fault: str, at: int) -> str:
        """What is wrong after a fault at that call; "" if nothing."""
        self._copy()
        try:
            self._run("act", self.folder, fault, at)
            finished = self._run("finish", self.folder)
        except RuntimeError as error:
            return str(error)
        found, ended = finished["found"], finished["end"]
        if wrong := found.items() - self.before.items() - self.after.items():
            return f"torn, but accepted: {sorted(wrong)}"
        if not (self.before.items() <= found.items() or self.after.items() <= found.items()):
            return f"finished before, but lost: {sorted(self.before.keys() - found.keys())}"
        names = ended.keys() | self.expected.keys()
        other = sorted(name for name in names if ended.get(name) != self.expected.get(name))
        return f"in the end other than without the fault: {other}" if other else ""

    def _copy(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def _run(self, function: str, folder: Path, *rest: Any) -> Any:
        args = (self.name, str(folder), *rest)
        return self.zygote.run(f"tests.faults.works:{function}", *args, warm=WORKS[self.name].warm)


def cells(thorough: bool) -> list[Any]:
    """The table; cells that share what is prepared stay on one worker."""
    return [
        pytest.param(
            *(name, fault),
            id=f"{name}-{fault}",
            marks=pytest.mark.xdist_group(f"faults of {name}" if thorough else "faults"),
        )
        for name, work in WORKS.items()
        for fault in FAULTS
        if thorough or work.quick
    ]


def check(trial: Trial, fault: str, sample: int | None) -> None:
    """At `sample` places, evenly; None: at all where it kills, else at every second."""
    places = [
        at for at, call in enumerate(trial.calls, start=1) if fault != FULL or call in NEEDS_SPACE
    ]
    stride = 1 if fault == KILL else 2
    if sample is not None:
        stride = -(-len(places) // sample)
    places = places[FAULTS.index(fault) % stride :: stride] or places
    assert places
    wrong = [
        f"{trial.calls[at - 1]} at {at}: {problem}"
        for at in places
        if (problem := trial.interrupted(fault, at))
    ]
    if wrong:
        head = f"{trial.name}, {fault}: {len(wrong)} of {len(places)} of {len(trial.calls)} calls"
        pytest.fail("\n".join([head, *wrong]), pytrace=False)


@pytest.mark.parametrize(("name", "fault"), cells(thorough=False))
def test_a_work_that_is_interrupted_goes_on(
    name: str, fault: str, trials: Callable[[str], Trial]
) -> None:
    check(trials(name), fault, SAMPLE)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "fault"), cells(thorough=True))
def test_a_work_that_is_interrupted_at_any_call_goes_on(
    name: str, fault: str, trials: Callable[[str], Trial]
) -> None:
    check(trials(name), fault, WORKS[name].most)
