"""Hosts, and the runs of one case: planned, launched together, then read by many tests."""

import importlib.util
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch

from tests.adapters import launching
from tests.adapters.cases import Case
from tests.adapters.checks import AT, INTERVAL, NUM_STEPS, RECORD, Notes
from tests.upstreams import find_checkout

ADAPTERS = Path(__file__).parent
Job = dict[str, Any]
# few steps, of which all but the first give a node, and a walk that always stays for its cap
AUTOMATIC = ("--disback_record", "auto", "--disback_record_iters", "8")
AUTOMATIC += ("--disback_schedule_settings", '{"cap": 2, "every": 1, "known": 0}')
AUTOMATIC_STEPS = 16
ANY_IS_KNOWN = ("--disback_record_settings", '{"min_loss": 9}')


@dataclass(frozen=True)
class Run:
    """One training run of a case. With a `path`, DisBack is on, and the path lies there.

    reuse: it was recorded before; resume: the run whose newest checkpoint it goes on with; kill:
    the step it is killed at; options: arguments of this run alone; automatic: no recording and no
    schedule is asked for but by them.
    """

    name: str
    path: str = ""
    num_steps: int = 4
    reuse: bool = False
    resume: str = ""
    kill: int | None = None
    options: tuple[str, ...] = ()
    automatic: bool = False

    def flags(self, folder: Path) -> list[str]:
        """What the patched scripts are asked for."""
        flags = ["--disback", "--disback_path", str(folder / self.path)] if self.path else []
        if self.automatic:
            return flags
        if self.path and not self.reuse:
            at = ",".join(map(str, AT))
            flags += ["--disback_record_iters", str(RECORD), "--disback_record_at", at]
        return [*flags, *(["--disback_interval", str(INTERVAL)] if self.path else [])]


class Host(ABC):
    """A program that the plugin is attached to: the real one, or the small one of our own."""

    upstream: ClassVar[str]  # the folder of a checkout
    landmark: ClassVar[str]  # a file in it
    setting: ClassVar[str | None] = None  # one of its own that a recording hangs on, if it is told
    needs: ClassVar[tuple[str, ...]] = ()  # what both import
    real_needs: ClassVar[tuple[str, ...]] = ()
    small: ClassVar[Path]
    num_steps: ClassVar[int] = NUM_STEPS
    kills: ClassVar[tuple[int, int]] = (4, 8)  # while recording, on the way back
    resumed_at: ClassVar[tuple[int, int]] = (3, 7)  # the steps that follow
    resumes_exactly: ClassVar[bool] = True
    unchanged: ClassVar[tuple[str, ...]] = ("off",)  # runs that train as `plain` does
    only_ours: ClassVar[tuple[str, ...]] = ()  # what those may note on top

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder

    @property
    def is_real(self) -> bool:
        return self.source != self.small

    @classmethod
    def checkout(cls) -> Path:
        """A checkout that can run; skips the test where there is none."""
        found = find_checkout(cls.upstream, cls.landmark)
        if found is None:
            pytest.skip(f"no checkout {cls.upstream} in DISBACK_UPSTREAMS or third_party/")
        need(*cls.needs, *cls.real_needs)
        return found

    @classmethod
    def tree(cls, real: bool) -> Path:
        """The real host's or the small one's folder; skips the test where it cannot run."""
        need(*cls.needs)
        return cls.checkout() if real else cls.small

    def plan(self, case: Case) -> list[Run]:
        """Repaired; patched and off; on; SIGKILL while recording, on the way back; path reused."""
        first, second = self.kills
        runs = [Run("plain"), Run("off"), Run("on", "path", self.num_steps)]
        if not case.brief:
            killed = ("killed-path", self.num_steps)
            runs += [Run("recording", *killed, kill=first)]
            runs += [Run("walking", *killed, resume="recording", kill=second)]
            runs += [Run("resumed", *killed, resume="walking")]
            runs += [Run("reused", "path", NUM_STEPS - RECORD, reuse=True)]
        return runs

    @abstractmethod
    def job(self, case: Case, run: Run, folder: Path) -> Job:
        """What the driver is told; its own keys only."""

    def env(self, case: Case) -> dict[str, str]:
        return {}

    def launch(self, case: Case, runs: list[Run], folder: Path) -> list[int]:
        """All runs in one launch; the exit codes."""
        jobs = []
        for run in runs:
            (folder / run.name).mkdir(parents=True)
            notes = str(folder / run.name / "notes")
            job = {"notes": notes, "port": launching.free_port(), **self.job(case, run, folder)}
            jobs.append(job if run.kill is None else {**job, "kill": run.kill})
        driver = type(self).__module__.rpartition(".")[0] + ".driver"
        return launching.launch(driver, jobs, folder / "launch", case.num_processes, self.env(case))


class PatchedHost(Host):
    """A checkout twice: `plain` with the repairs only, `patched` with `--disback`."""

    patches: ClassVar[ModuleType]

    def __init__(self, source: Path, folder: Path) -> None:
        super().__init__(source, folder)
        repairs, features = ([patch.name for patch in kind] for kind in self._kinds())
        self.plain = self.patch("plain", repairs)
        self.patched = self.patch("patched", [*repairs, *features])

    def _kinds(self) -> tuple[Any, Any]:
        return self.patches.REPAIRS, self.patches.FEATURES

    def plan(self, case: Case) -> list[Run]:
        """Also: by default with a student that the teacher knows; automatic with one unknown."""
        runs = super().plan(case)
        if case.automatic:
            noise = 1 if case.dtype == torch.float32 else 0.999  # of a teacher that was rounded
            rules = ("--disback_record_settings", f'{{"common": 1, "noise": {noise}}}')
            known, options = self.known(case), (*AUTOMATIC, *rules, *self.unknown(case))
            auto = {"num_steps": AUTOMATIC_STEPS, "automatic": True, "options": options}
            runs += [Run("known", options=known)]
            declined = (*known, *(() if self.has_knowing(case) else ANY_IS_KNOWN))
            runs += [Run("declined", "declined-path", options=declined, automatic=True)]
            runs += [Run("auto", "auto-path", **auto)]
            killed = {"path": "killed-auto-path", **auto}
            runs += [Run("auto-recording", kill=6, **killed)]
            runs += [Run("auto-walking", kill=10, resume="auto-recording", **killed)]
            runs += [Run("auto-resumed", resume="auto-walking", **killed)]
        return runs

    def known(self, case: Case) -> tuple[str, ...]:
        """What gives a student whose samples the teacher knows."""
        return ()

    def has_knowing(self, case: Case) -> bool:
        """Whether it has such a teacher; else a rule takes any for one."""
        return True

    def unknown(self, case: Case) -> tuple[str, ...]:
        """What gives one whose samples it does not know, and a fake score that learns them."""
        return ()

    def patch(self, name: str, chosen: list[str]) -> Path:
        """A copy of that name with the patches of those names."""
        tree = self.copy(self.source, self.folder / name)
        if chosen:
            self.patches.checkout(tree).apply(chosen, force=not self.is_real)
        return tree

    @staticmethod
    @abstractmethod
    def copy(source: Path, target: Path) -> Path:
        """The parts of a checkout that training needs."""


@dataclass(frozen=True)
class Runs:
    """The finished runs of a case."""

    case: Case
    host: Any
    folder: Path

    @property
    def ranks(self) -> range:
        return range(self.case.num_processes)

    @property
    def whole_ranks(self) -> range:
        """Those that note whole weights: under FSDP they are gathered on the first."""
        return range(1) if self.case.shard_from else self.ranks

    @property
    def log(self) -> str:
        """What rank 0 printed, of all runs."""
        return launching.log(self.folder / "launch")

    def notes(self, name: str, rank: int | str = 0) -> Notes:
        """What a run noted, one entry a step."""
        lines = (self.folder / name / f"notes.{rank}").read_text().splitlines()
        return [json.loads(line) for line in lines]


def as_flags(values: dict[str, Any]) -> list[str]:
    """A command line that gives these values."""
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def need(*modules: str) -> None:
    """Skip the test where one of them is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the host needs {', '.join(missing)}, which are not installed")
