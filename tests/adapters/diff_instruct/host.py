"""Diff-Instruct, or the small host: its arguments, and the runs that only it has."""

import shutil
from pathlib import Path

import diff_instruct_patches
from tests.adapters.cases import Case
from tests.adapters.checks import NUM_STEPS
from tests.adapters.diff_instruct.inputs import CHANNELS, make_images
from tests.adapters.runs import ADAPTERS, Job, PatchedHost, Run, as_flags

SMALL_HOST = ADAPTERS / "diff_instruct" / "small"
BATCH = 500  # two steps are a thousand images, the unit of its ticks and of its duration
OFF = ("--disback", "--disback_arm", "fixed")


def copy_checkout(source: Path, target: Path) -> Path:
    """The parts of a checkout that training needs."""
    left_out = shutil.ignore_patterns(".git", ".disback", "__pycache__")
    shutil.copytree(source, target, ignore=left_out)
    return target


class DiffInstruct(PatchedHost):
    """It has no resume of its own: `--disback_resume` is ours, also of the arm `fixed`."""

    upstream, landmark = "diff_instruct", "di_train.py"
    setting = "batch"
    needs = ("click", "PIL", "libcst")
    real_needs = ("psutil", "scipy", "requests")
    small, patches, copy = SMALL_HOST, diff_instruct_patches, staticmethod(copy_checkout)
    num_steps = NUM_STEPS + 1  # an even number: its duration counts thousands of images

    def __init__(self, source: Path, folder: Path) -> None:
        super().__init__(source, folder)
        self.inputs = folder / "inputs"
        make_images(self.inputs / "images")

    def plan(self, case: Case) -> list[Run]:
        runs = super().plan(case)
        if case.num_processes == 1:
            runs += [Run("fixed", kill=2, options=OFF)]
            runs += [Run("resumed-fixed", resume="fixed", options=OFF)]
            runs += [Run("fake-as-real", "other-path", self.num_steps, kill=7)]
            runs += [Run("with-worker")]
        return runs

    def unknown(self, case: Case) -> tuple[str, ...]:
        return ("--transfer", str(self.inputs / "student.pkl"), "--lr", "1e-2")

    def job(self, case: Case, run: Run, folder: Path) -> Job:
        extra = [*run.flags(folder), *run.options]
        if case.num_processes > 1:  # two accumulated rounds
            extra += ["--batch-gpu", str(BATCH // case.num_processes // 2)]
        if run.resume:
            extra += ["--disback_resume", str(folder / run.resume)]
        job: Job = {
            "checkout": str(self.plain if run.name == "plain" else self.patched),
            "teacher": str(self.inputs / "teacher.pkl"),
            "args": [*self.arguments(folder / run.name, run.num_steps), *extra],
        }
        own = {"with-worker": {"workers": True}, "fake-as-real": {"install_fake_score": 6}}
        return job | own.get(run.name, {})

    def arguments(self, out: Path, num_steps: int) -> list[str]:
        """Of a tiny run; a snapshot after steps 0, 2, 4 ..."""
        own = {
            "outdir": out,
            "data": self.inputs / "images",
            "edm_file": self.inputs / "teacher.pkl",
            "cond": 1,
            "cbase": CHANNELS,
            "cres": 1,
            "duration": num_steps * BATCH / 1e6,
            "batch": BATCH,
            "tick": 1,
            "snap": 1,
            "seed": 3,
            "init_sigma": 2.5,
        }
        return [*as_flags(own), "--nosubdir"]
