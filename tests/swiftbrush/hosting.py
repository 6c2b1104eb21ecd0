"""Copies of a SwiftBrush checkout, patched, and runs of its script in processes of their own."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftbrush_patches import FEATURES, REPAIRS, checkout
from tests.hosts import launching
from tests.hosts.dmd2_inputs import LATENT
from tests.hosts.launching import ROOT, free_port

SMALL_HOST = ROOT / "tests" / "hosts" / "small_swiftbrush"
FILES = ("train_swiftbrush.py", "prepare.py", "infer.py")
NUM_PROMPTS = 10  # 5 batches an epoch: several epochs a run, the last step of each a short one
RANK, ALPHA = 2, 4


def find_checkout() -> Path | None:
    """SwiftBrush in third_party/ or in the folder DISBACK_UPSTREAMS; None where there is none."""
    folders = [ROOT / "third_party"]
    if "DISBACK_UPSTREAMS" in os.environ:
        folders.insert(0, Path(os.environ["DISBACK_UPSTREAMS"]))
    for folder in folders:
        if (folder / "SwiftBrush" / FILES[0]).exists():
            return folder / "SwiftBrush"
    return None


def names(features: bool = True) -> list[str]:
    """All repairs, and all features."""
    return [patch.name for patch in (*REPAIRS, *(FEATURES if features else ()))]


def copy_checkout(source: Path, target: Path) -> Path:
    """The files of a checkout that the patches know."""
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copy(source / name, target / name)
    return target


@dataclass(frozen=True)
class Host:
    """A checkout three times: untouched, with the repairs only, with `--disback`; and inputs."""

    raw: Path
    plain: Path
    patched: Path
    inputs: Path
    is_real: bool

    @classmethod
    def of(cls, source: Path, folder: Path, inputs: Path) -> "Host":
        trees = [copy_checkout(source, folder / name) for name in ("raw", "plain", "patched")]
        for tree, features in zip(trees[1:], (False, True), strict=True):
            checkout(tree).apply(names(features), force=source == SMALL_HOST)
        return cls(*trees, inputs, source != SMALL_HOST)


def arguments(inputs: Path, output: Path, num_steps: int, *extra: str) -> list[str]:
    """Launch arguments of a tiny run; a checkpoint every second step."""
    common = {
        "pretrained_model_name_or_path": inputs / "sd15",
        "train_data_dir": inputs / "prompts",
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
    pairs = [part for name, value in common.items() for part in (f"--{name}", str(value))]
    return [*pairs, *extra]


def job(tree: Path, out: Path, args: list[str], **more: Any) -> dict[str, Any]:
    """A job of the driver; its notes go to out/notes.<rank>."""
    out.mkdir(parents=True, exist_ok=True)
    notes, port = str(out / "notes"), free_port()
    return {"checkout": str(tree), "args": args, "notes": notes, "port": port, **more}


def launch(jobs: list[dict[str, Any]], folder: Path, num_processes: int = 1) -> list[int]:
    """Run jobs, one after another in the same process(es); returns the exit codes."""
    env = {"TQDM_DISABLE": "1", "ACCELERATE_USE_CPU": "true"}
    return launching.launch("tests.hosts.swiftbrush_driver", jobs, folder, num_processes, env)
