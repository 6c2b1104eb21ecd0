"""Where FastGen is, and runs of its `train.py` in processes of their own."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hosts import checks, launching
from tests.hosts.launching import ROOT, notes, succeed

CALLBACK = "disback_plugin.adapters.fastgen.callback.DisBackCallback"
PROBE = "tests.hosts.fastgen_probe.Probe"
SMALL = ROOT / "tests" / "hosts" / "small_fastgen"


@dataclass(frozen=True)
class Host:
    """A checkout of FastGen, or the small host; its config file."""

    checkout: Path
    config: str
    is_real: bool
    method: str = "dmd2"


SMALL_HOST = Host(SMALL, "tests/hosts/small_fastgen/tiny_config.py", is_real=False)


def find_checkout() -> Path | None:
    """FastGen in third_party/ or in the folder DISBACK_UPSTREAMS; None where there is none."""
    folders = [ROOT / "third_party"]
    if "DISBACK_UPSTREAMS" in os.environ:
        folders.insert(0, Path(os.environ["DISBACK_UPSTREAMS"]))
    for folder in folders:
        if (folder / "FastGen" / "fastgen" / "callbacks" / "callback.py").exists():
            return folder / "FastGen"
    return None


@dataclass(frozen=True)
class Case:
    """Runs of one host in one folder; each leaves notes and checkpoints under its name."""

    host: Host
    folder: Path
    num_processes: int = 1
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        name: str,
        disback: str = "",
        resume: str = "",
        num_steps: int = checks.NUM_STEPS,
        opts: tuple[str, ...] = (),
        **probe: Any,
    ) -> None:
        """Plan a run.

        disback: the callback's arguments; resume: the run to go on with; opts: more overrides;
        probe: arguments of the probe.
        """
        (self.folder / name).mkdir(parents=True)
        probe |= {"_target_": PROBE, "notes": self.folder / name / "notes"}
        callbacks = [f"+trainer.callbacks.probe={_braces(probe)}"]
        if disback:  # first: at a run's end the probe sees what it left
            callbacks.insert(0, f"+trainer.callbacks.disback={{_target_: {CALLBACK}, {disback}}}")
        every = [
            f"trainer.max_iter={num_steps + 1}",
            "trainer.save_ckpt_iter=3",
            f"trainer.ddp={self.num_processes > 1}",
            f"log_config.name={resume or name}",
        ]
        job = {"checkout": str(self.host.checkout), "is_real": self.host.is_real}
        job |= {"config": self.host.config, "method": self.host.method}
        job |= {"root": str(self.folder / "root"), "opts": [*every, *opts, *callbacks]}
        self.jobs.append(job)

    def launch(self) -> list[int]:
        """Run what is planned; the exit codes."""
        jobs, self.jobs[:] = list(self.jobs), []
        driver = "tests.hosts.fastgen_driver"
        return launching.launch(driver, jobs, self.folder / "launch", self.num_processes)

    def succeed(self) -> None:
        succeed(self.launch(), self.folder / "launch")

    def log(self) -> str:
        return (self.folder / "launch" / "log.0").read_text()

    def notes(self, name: str, rank: int = 0) -> checks.Notes:
        return notes(self.folder / name, rank)

    def freq_at_end(self, name: str) -> int:
        """The model's `student_update_freq` after the run."""
        return json.loads((self.folder / name / "notes.0.end").read_text())["student_update_freq"]

    def recording(self, path: str) -> str:
        """The callback's arguments of the runs that the shared checks know."""
        record = {"num_steps": checks.RECORD, "at": list(checks.AT)}
        schedule = {"name": "fixed", "interval": checks.INTERVAL}
        settings = {"path": self.folder / path, "record": record, "schedule": schedule}
        return _braces(settings)[1:-1]


def _braces(value: Any) -> str:
    """As one writes it on a command line: no quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_braces(item)}" for key, item in value.items()) + "}"
    return str(value)
