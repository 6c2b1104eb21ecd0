"""Copies of a DMD2 checkout, patched, and runs of its scripts in processes of their own."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmd2_patches import FEATURES, REPAIRS, checkout
from tests.hosts import launching
from tests.hosts.dmd2_inputs import EDM_LABELS, EDM_SIDE, LATENT
from tests.hosts.launching import ROOT, notes, succeed

__all__ = [
    "NUM_ROWS",
    "PICTURES",
    "ROOT",
    "SMALL_HOST",
    "Host",
    "arguments",
    "copy_checkout",
    "find_checkout",
    "job",
    "launch",
    "names",
    "notes",
    "succeed",
]

SMALL_HOST = ROOT / "tests" / "hosts" / "small_dmd2"
NUM_ROWS = 40
PICTURES = 4  # every so many steps: some fall into the recording, one on the way back


def find_checkout() -> Path | None:
    """DMD2 in third_party/ or in the folder DISBACK_UPSTREAMS; None where there is none."""
    folders = [ROOT / "third_party"]
    if "DISBACK_UPSTREAMS" in os.environ:
        folders.insert(0, Path(os.environ["DISBACK_UPSTREAMS"]))
    for folder in folders:
        if (folder / "DMD2" / "main" / "train_sd.py").exists():
            return folder / "DMD2"
    return None


def names(features: bool = True) -> list[str]:
    """All repairs, and all features."""
    return [patch.name for patch in (*REPAIRS, *(FEATURES if features else ()))]


def copy_checkout(source: Path, target: Path) -> Path:
    """The parts of a checkout that training needs."""
    for name in ("main", "third_party", "dnnlib", "torch_utils"):
        if (source / name).exists():
            shutil.copytree(source / name, target / name)
    return target


@dataclass(frozen=True)
class Host:
    """A checkout twice: `plain` with the repairs only, `patched` with `--disback`; and inputs."""

    plain: Path
    patched: Path
    inputs: Path

    @classmethod
    def of(cls, source: Path, folder: Path, inputs: Path) -> "Host":
        trees = [copy_checkout(source, folder / name) for name in ("plain", "patched")]
        for tree, features in zip(trees, (False, True), strict=True):
            checkout(tree).apply(names(features), force=source == SMALL_HOST)
        return cls(*trees, inputs)


def arguments(kind: str, inputs: Path, out: Path, num_steps: int, *extra: str) -> list[str]:
    """Launch arguments of a tiny run of `sdxl`, `sd15`, `edm`, or the small host's two scripts."""
    if kind.startswith("small"):
        folders = ["--output_path", str(out / "output"), "--cache_dir", str(out / "cache")]
        counts = ["--train_iters", str(num_steps), "--wandb_iters", str(PICTURES)]
        return [*folders, *counts, *extra]
    common = {
        "generator_lr": "1e-3",
        "guidance_lr": "1e-3",
        "train_iters": str(num_steps),
        "output_path": str(out / "output"),
        "cache_dir": str(out / "cache"),
        "seed": "10",
        "wandb_name": "test",
        "wandb_project": "test",
        "wandb_iters": str(PICTURES),
        "log_iters": "1000",
        "warmup_step": "2",
        "num_workers": "0",
    }
    if kind == "edm":
        own = {
            "model_id": str(inputs / "edm" / "tiny_edm.pkl"),
            "real_image_path": str(inputs / "edm" / "images_lmdb"),
            "resolution": str(EDM_SIDE),
            "label_dim": str(EDM_LABELS),
            "batch_size": "16",
        }
    else:
        own = {
            "model_id": str(inputs / kind),
            "log_path": str(out / "logs"),
            "train_prompt_path": str(inputs / "prompts.txt"),
            "real_image_path": str(inputs / "latents_lmdb"),
            "resolution": str(2 * LATENT),
            "latent_resolution": str(LATENT),
            "batch_size": "2",
            "grid_size": "1",
            "real_guidance_scale": "8" if kind == "sdxl" else "1.75",
        }
    flags = ["--initialie_generator"]
    if kind != "edm":
        flags += ["--log_loss"] + (["--sdxl"] if kind == "sdxl" else [])
    pairs = [part for name, value in {**common, **own}.items() for part in (f"--{name}", value)]
    return [*pairs, *flags, *extra]  # argparse takes the last of a repeated argument


def job(tree: Path, kind: str, out: Path, args: list[str], **more: Any) -> dict[str, Any]:
    """A job of the driver; its notes go to out/notes.<rank>."""
    out.mkdir(parents=True, exist_ok=True)
    script = "edm" if kind.endswith("edm") else "sd"
    notes = str(out / "notes")
    return {"script": script, "checkout": str(tree), "args": args, "notes": notes, **more}


def launch(
    jobs: list[dict[str, Any]], folder: Path, num_processes: int = 1, fsdp_from: int = 0
) -> list[int]:
    """Run jobs, one after another in the same process(es); returns the exit codes.

    fsdp_from: shard, and wrap modules of at least that many parameters; 0: do not.
    """
    env = {"WANDB_MODE": "disabled", "TQDM_DISABLE": "1", "ACCELERATE_USE_CPU": "true"}
    if fsdp_from:
        env |= {**FSDP, "FSDP_MIN_NUM_PARAMS": str(fsdp_from)}
    return launching.launch("tests.dmd2.driver", jobs, folder, num_processes, env)


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
