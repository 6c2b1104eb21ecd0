"""SwiftBrush, or the small host: its arguments, and the run that only the real one has."""

import shutil
from pathlib import Path

import swiftbrush_patches
from tests.adapters.cases import Case
from tests.adapters.dmd2.inputs import LATENT, make_knowing
from tests.adapters.runs import ADAPTERS, Job, PatchedHost, Run, as_flags
from tests.adapters.swiftbrush.inputs import make_inputs

SMALL_HOST = ADAPTERS / "swiftbrush" / "small"
FILES = ("train_swiftbrush.py", "prepare.py", "infer.py")
NUM_PROMPTS = 10  # 5 batches an epoch: several epochs a run, the last step of each a short one
RANK, ALPHA = 2, 4


def copy_checkout(source: Path, target: Path) -> Path:
    """The files of a checkout that the patches know."""
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copy(source / name, target / name)
    return target


class SwiftBrush(PatchedHost):
    """The real one trains unrepaired too, where it is given prompts."""

    upstream, landmark = "SwiftBrush", FILES[0]
    setting = "learning_rate_lora"
    needs = ("accelerate", "diffusers", "peft", "transformers", "libcst")
    small, patches, copy = SMALL_HOST, swiftbrush_patches, staticmethod(copy_checkout)
    kills, resumed_at = (4, 8), (2, 6)  # counts of steps done; a checkpoint every second

    def __init__(self, source: Path, folder: Path) -> None:
        super().__init__(source, folder)
        self.raw = self.patch("raw", [])
        self.inputs = folder / "inputs"
        make_inputs(self.inputs, NUM_PROMPTS)
        if self.is_real:
            self.unchanged = ("off", "raw")

    def plan(self, case: Case) -> list[Run]:
        raw = Run("raw", options=("--validation_prompts", "red dog"))  # it does not start without
        return [*super().plan(case), *([raw] if self.is_real else [])]

    def known(self, case: Case) -> tuple[str, ...]:
        if not self.is_real:
            return ()
        folder = self.inputs / "known-sd15"
        if not folder.exists():
            make_knowing(folder, self.inputs / "sd15")
        return ("--pretrained_model_name_or_path", str(folder))

    def has_knowing(self, case: Case) -> bool:
        return self.is_real

    def job(self, case: Case, run: Run, folder: Path) -> Job:
        flags = [*case.options.split(), *run.flags(folder), *run.options]
        if run.resume:
            flags += ["--resume_from_checkpoint", "latest"]
        own = run.name if run.reuse or not run.path else run.path  # shared with those that resume
        args = self.arguments(folder / f"{own}-output", run.num_steps)
        tree = {"raw": self.raw, "plain": self.plain}.get(run.name, self.patched)
        return {"checkout": str(tree), "args": [*args, *flags]}

    def env(self, case: Case) -> dict[str, str]:
        return {"ACCELERATE_USE_CPU": "true"}

    def arguments(self, output: Path, num_steps: int) -> list[str]:
        """Of a tiny run; a checkpoint every second step."""
        own = {
            "pretrained_model_name_or_path": self.inputs / "sd15",
            "train_data_dir": self.inputs / "prompts",
            "output_dir": output,
            "max_train_steps": num_steps,
            "resolution": 8 * LATENT,
            "train_batch_size": 2,
            "seed": 3,
            "lora_rank": RANK,
            "lora_alpha": ALPHA,
            "checkpointing_steps": 2,
            "num_validation_images": 0,
            "learning_rate": 1e-4,
            "learning_rate_lora": 1e-2,
        }
        return as_flags(own)
