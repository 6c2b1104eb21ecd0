"""What the plugin costs: time per step with no switch due, and bytes per node by codec.

    python benchmarks/overhead.py [--num-steps 300] [--threads 1]

Steps with and without the plugin alternate in one process, so that noise of the machine falls on
both. The ratio of medians should be at most 1.01, and the calls themselves should take at most 5
microseconds; exit code 1 if they do not.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from disback_plugin import DegradationPath
from disback_plugin.lab.config.experiment import parse_config
from disback_plugin.lab.networks import SmallUNet
from disback_plugin.lab.trainer.loop import Distillation
from disback_plugin.lab.trainer.roles import attach, make_accelerator, make_networks, make_sampler

LIMIT = 1.01
CALLS_LIMIT = 5e-6  # seconds
CONFIG = {
    "name": "overhead",
    "problem": {"kind": "digits"},
    "teacher": {
        "denoiser": {"kind": "edm"},
        "network": {"kind": "small-unet"},
        "training": {"num_steps": 1},
    },
    "student": {"kind": "denoiser", "sigma": 80.0},
    "distill": {"num_steps": 10**6, "batch_size": 32},
    # two nodes, then node 1 answers for the rest: a session in the middle of backtracking
    "disback": {
        "record": {"num_steps": 2, "every": 1},
        "schedule": {"name": "fixed", "interval": 10**6},
    },
    "evaluation": {"every": 1000, "primary": "fd_pixel"},
    "device": "cpu",
}


def make_loop(arm: str, folder: Path) -> Distillation:
    """The reference trainer's loop, with or without a session."""
    config = parse_config(CONFIG, "overhead")
    problem, accelerator = config.problem.load(), make_accelerator(config)
    teacher = config.teacher.make(problem)
    teacher.requires_grad_(False).eval()
    networks = make_networks(config, teacher, problem, 0, accelerator)
    sampler = make_sampler(config, problem, 0, accelerator)
    session = attach(config, arm, networks, folder)
    return Distillation(networks, config, sampler, accelerator, session)


def time_steps(num_steps: int, folder: Path) -> tuple[float, float]:
    """Median seconds per step without and with the plugin."""
    loops = {arm: make_loop(arm, folder) for arm in ("fixed", "disback")}
    seconds: dict[str, list[float]] = {arm: [] for arm in loops}
    for step in range(num_steps + 10):
        for arm, loop in loops.items() if step % 2 else reversed(loops.items()):
            start = time.perf_counter()
            loop.train_step(step)
            if step >= 10:  # after recording, the only switch, and warming up
                seconds[arm].append(time.perf_counter() - start)
    return statistics.median(seconds["fixed"]), statistics.median(seconds["disback"])


def time_calls(folder: Path, repeats: int = 5, num: int = 4000) -> float:
    """Median seconds that begin_step and end_step themselves take, with no switch due."""
    session = make_loop("disback", folder).disback
    assert session is not None
    session.begin_step(2)
    session.end_step(2)
    seconds = []
    for first in range(3, repeats * num + 3, num):
        start = time.perf_counter()
        for step in range(first, first + num):
            session.begin_step(step)
            session.end_step(step)
        seconds.append((time.perf_counter() - start) / num)
    return statistics.median(seconds)


def node_bytes(codec: str, folder: Path) -> int:
    """Bytes on disk of one node of a small U-Net."""
    torch.manual_seed(0)
    teacher = SmallUNet((1, 8, 8)).state_dict()
    path = DegradationPath.create(folder / codec, teacher, codec=codec)
    node = {name: value + 1e-3 * torch.randn_like(value) for name, value in teacher.items()}
    return path.append(node, step=1).bytes


def main() -> int:
    """Print the figures; 1 if the overhead is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        without, attached = time_steps(args.num_steps, Path(name) / "path")
        calls = time_calls(Path(name) / "path")  # reuses the path just recorded
        sizes = {codec: node_bytes(codec, Path(name)) for codec in ("full", "delta")}
    ratio = attached / without
    print(f"threads {args.threads}, {args.num_steps} steps each, alternating")
    print(f"ms per step: without {1e3 * without:.3f}, attached {1e3 * attached:.3f}")
    print(f"ratio of medians: {ratio:.4f} (limit {LIMIT})")
    limit = 1e6 * CALLS_LIMIT
    print(f"begin_step and end_step themselves: {1e6 * calls:.1f} microseconds (limit {limit:g})")
    num = sum(value.numel() for value in SmallUNet((1, 8, 8)).state_dict().values())
    for codec, size in sizes.items():
        print(f"codec {codec:<6} {size:>9,} bytes a node, {size / num:.2f} bytes a weight")
    return 0 if ratio <= LIMIT and calls <= CALLS_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
