"""Copies of a Diff-Instruct checkout, patched, and runs of its script in processes of their own."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diff_instruct_patches import FEATURES, REPAIRS, checkout
from tests.hosts import launching
from tests.hosts.diff_instruct_inputs import CHANNELS, make_images
from tests.hosts.launching import ROOT

SMALL_HOST = ROOT / "tests" / "hosts" / "small_diff_instruct"
BATCH = 500  # two steps are a thousand images, the unit of its ticks and of its duration


def find_checkout() -> Path | None:
    """Diff-Instruct in third_party/ or in the folder DISBACK_UPSTREAMS, None where it is not."""
    folders = [ROOT / "third_party"]
    if "DISBACK_UPSTREAMS" in os.environ:
        folders.insert(0, Path(os.environ["DISBACK_UPSTREAMS"]))
    for folder in folders:
        if (folder / "diff_instruct" / "di_train.py").exists():
            return folder / "diff_instruct"
    return None


def copy_checkout(source: Path, target: Path) -> Path:
    """The parts of a checkout that training needs."""
    left_out = shutil.ignore_patterns(".git", ".disback", "__pycache__")
    shutil.copytree(source, target, ignore=left_out)
    return target


@dataclass(frozen=True)
class Host:
    """A checkout twice: `plain` with the repairs only, `patched` with `--disback`; and inputs."""

    plain: Path
    patched: Path
    inputs: Path

    @classmethod
    def of(cls, source: Path, folder: Path) -> "Host":
        for name, patches in (("plain", REPAIRS), ("patched", (*REPAIRS, *FEATURES))):
            tree = copy_checkout(source, folder / name)
            chosen = [patch.name for patch in patches]
            checkout(tree).apply(chosen, force=source == SMALL_HOST)
        inputs = folder / "inputs"
        make_images(inputs / "images")
        return cls(folder / "plain", folder / "patched", inputs)

    def arguments(self, out: Path, num_steps: int, *extra: str) -> list[str]:
        """Of a tiny run; a snapshot after steps 0, 2, 4 ..."""
        own = {
            "outdir": str(out),
            "data": str(self.inputs / "images"),
            "edm_file": str(self.inputs / "teacher.pkl"),
            "cond": "1",
            "cbase": str(CHANNELS),
            "cres": "1",
            "duration": str(num_steps * BATCH / 1e6),
            "batch": str(BATCH),
            "tick": "1",
            "snap": "1",
            "seed": "3",
            "init_sigma": "2.5",
        }
        pairs = [part for name, value in own.items() for part in (f"--{name}", value)]
        return [*pairs, "--nosubdir", *extra]

    def job(self, name: str, out: Path, args: list[str], **more: Any) -> dict[str, Any]:
        """A job of the driver for `plain` or `patched`; its notes go to out/notes.<rank>."""
        out.mkdir(parents=True, exist_ok=True)
        files = {"checkout": str(self.plain if name == "plain" else self.patched)}
        files |= {"teacher": str(self.inputs / "teacher.pkl"), "notes": str(out / "notes")}
        return {**files, "args": args, "port": launching.free_port(), **more}


def launch(jobs: list[dict[str, Any]], folder: Path, num_processes: int = 1) -> list[int]:
    """Run jobs, one after another in the same process(es); returns the exit codes."""
    return launching.launch("tests.hosts.diff_instruct_driver", jobs, folder, num_processes)
