"""DMD2, or the small host: its arguments, and the runs that only it has."""

import shutil
from pathlib import Path

import dmd2_patches
from tests.adapters.cases import Case
from tests.adapters.dmd2.inputs import (
    EDM_LABELS,
    EDM_SIDE,
    LATENT,
    make_inputs,
    make_knowing,
    make_small_student,
)
from tests.adapters.launching import ROOT
from tests.adapters.runs import ADAPTERS, Job, PatchedHost, Run, as_flags

__all__ = ["DMD2", "NUM_ROWS", "PICTURES", "ROOT", "SMALL_HOST", "copy_checkout"]

SMALL_HOST = ADAPTERS / "dmd2" / "small"
NUM_ROWS = 40
PICTURES = 4  # every so many steps: some fall into the recording, one on the way back


def copy_checkout(source: Path, target: Path) -> Path:
    """The parts of a checkout that training needs."""
    for name in ("main", "third_party", "dnnlib", "torch_utils"):
        if (source / name).exists():
            shutil.copytree(source / name, target / name)
    return target


class DMD2(PatchedHost):
    """Weights alone are a checkpoint too; a run may be killed inside a save."""

    upstream, landmark = "DMD2", "main/train_sd.py"
    setting = "guidance_lr"
    needs = ("accelerate", "wandb", "libcst")
    real_needs = ("diffusers", "transformers", "peft", "lmdb", "imageio")
    small, patches, copy = SMALL_HOST, dmd2_patches, staticmethod(copy_checkout)

    def __init__(self, source: Path, folder: Path) -> None:
        super().__init__(source, folder)
        self.inputs = folder / "inputs"
        if self.is_real:
            make_inputs(self.inputs, NUM_ROWS, source)
        else:
            make_small_student(self.inputs / "unknown")

    def plan(self, case: Case) -> list[Run]:
        killed = ("killed-path", self.num_steps)
        runs = [*super().plan(case), Run("weights-only", *killed, resume="walking")]
        if not case.shard_from:
            other = ("killed-in-save-path", self.num_steps)
            runs += [Run("killed-in-save", *other)]
            runs += [Run("resumed-in-save", *other, resume="killed-in-save")]
        if case.automatic and case.num_processes == 1:
            runs += [Run("measured", "no-path", options=self.unknown(case), automatic=True)]
        return runs

    def known(self, case: Case) -> tuple[str, ...]:
        if case.kind == "edm" or not self.is_real:
            return ()
        folder = self.inputs / f"known-{case.kind}"
        if not folder.exists():
            make_knowing(folder, self.inputs / case.kind)
        return ("--model_id", str(folder))

    def has_knowing(self, case: Case) -> bool:
        return case.kind == "edm" or self.is_real

    def unknown(self, case: Case) -> tuple[str, ...]:
        if case.kind != "edm":  # nothing is known to a random eps-prediction
            return ("--guidance_lr", "1e-2")
        folder = self.inputs / ("edm/unknown" if self.is_real else "unknown")
        return ("--generator_ckpt_path", str(folder), "--guidance_lr", "3e-2")

    def job(self, case: Case, run: Run, folder: Path) -> Job:
        flags = [*case.options.split(), "--log_iters", "2", *run.flags(folder), *run.options]
        args = self.arguments(case.kind, folder / run.name, run.num_steps, *flags)
        tree = self.plain if run.name == "plain" else self.patched
        script = "edm" if case.kind == "edm" else "sd"
        job: Job = {"script": script, "checkout": str(tree), "is_real": self.is_real, "args": args}
        if run.name == "measured":
            job["measured"] = True
        if run.name == "killed-in-save":
            job["kill_in_save"] = 8
        if run.resume:
            flag = "--ckpt_only_path" if run.name == "weights-only" else "--checkpoint_path"
            # a checkpoint is copied to the cache after it was written to the output
            where = "output" if run.name == "resumed-in-save" else "cache"
            job["resume"] = [flag, str(folder / run.resume / where)]
        return job

    def env(self, case: Case) -> dict[str, str]:
        env = {"WANDB_MODE": "disabled", "ACCELERATE_USE_CPU": "true"}
        if case.shard_from:
            env |= FSDP | {"FSDP_MIN_NUM_PARAMS": str(case.shard_from)}
        if "--generator_lora" in case.options:  # a LoRA lies beside frozen weights
            env |= {"FSDP_USE_ORIG_PARAMS": "true"}
        return env

    def arguments(self, kind: str, out: Path, num_steps: int, *extra: str) -> list[str]:
        """Launch arguments of a tiny run of `sdxl`, `sd15`, `edm`."""
        common = {"output_path": out / "output", "cache_dir": out / "cache"}
        common |= {"train_iters": num_steps, "wandb_iters": PICTURES}
        if not self.is_real:
            return [*as_flags(common), *extra]
        common |= {
            "generator_lr": "1e-3",
            "guidance_lr": "1e-3",
            "seed": 10,
            "wandb_name": "test",
            "wandb_project": "test",
            "log_iters": 1000,
            "warmup_step": 2,
            "num_workers": 0,
        }
        own = self._edm_arguments() if kind == "edm" else self._sd_arguments(kind, out)
        flags = ["--initialie_generator", *(["--log_loss"] if kind != "edm" else [])]
        flags += ["--sdxl"] if kind == "sdxl" else []
        return [*as_flags({**common, **own}), *flags, *extra]  # the last of a repeated one counts

    def _edm_arguments(self) -> dict[str, object]:
        return {
            "model_id": self.inputs / "edm" / "tiny_edm.pkl",
            "real_image_path": self.inputs / "edm" / "images_lmdb",
            "resolution": EDM_SIDE,
            "label_dim": EDM_LABELS,
            "batch_size": 16,
        }

    def _sd_arguments(self, kind: str, out: Path) -> dict[str, object]:
        return {
            "model_id": self.inputs / kind,
            "log_path": out / "logs",
            "train_prompt_path": self.inputs / "prompts.txt",
            "real_image_path": self.inputs / "latents_lmdb",
            "resolution": 2 * LATENT,
            "latent_resolution": LATENT,
            "batch_size": 2,
            "grid_size": 1,
            "real_guidance_scale": 8 if kind == "sdxl" else 1.75,
        }


FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "1",
    "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
    "FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP",
    "FSDP_BACKWARD_PREFETCH": "BACKWARD_PRE",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_SYNC_MODULE_STATES": "false",
    "FSDP_USE_ORIG_PARAMS": "false",
}
