"""Step time of DMD2 with `--disback` (no switch due) against DMD2 repaired only, tiny SDXL.

    python -m benchmarks.dmd2_overhead [--steps 200] [--json FILE]

Needs a DMD2 checkout (third_party/DMD2 or DISBACK_UPSTREAMS). Both runs train in one process and
take turns step by step, each on the clock only in its own turn, so both see the same machine. A
whole loop iteration counts, not the training step alone. The limit is for the thread's own CPU
time, which other work on the machine does not change; wall time is reported beside it.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_MODE", "disabled")

import lmdb
import torch

from tests.adapters.dmd2.driver import load_script
from tests.adapters.dmd2.host import DMD2

LIMIT = 1.02
SKIPPED = 10  # recording, the one switch, first batches


class Turns:
    """Lets named runs go on one at a time, round and round; clocks each in its turn."""

    def __init__(self, names: list[str]) -> None:
        self._names, self._current = names, 0
        self._changed = threading.Condition()
        self._since: dict[str, tuple[float, float]] = {}
        self.spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}

    def hand_over(self, name: str) -> None:
        """End this run's turn and wait for its next one."""
        if name in self._since:
            cpu, wall = self._since[name]
            self.spent[name].append((time.thread_time() - cpu, time.perf_counter() - wall))
        with self._changed:
            self._pass_on(name)
            self._changed.wait_for(lambda: self._names[self._current] == name)
        self._since[name] = (time.thread_time(), time.perf_counter())

    def leave(self, name: str) -> None:
        """This run has ended."""
        with self._changed:
            self._pass_on(name)
            self._names.remove(name)
            self._current %= max(len(self._names), 1)
            self._changed.notify_all()

    def _pass_on(self, name: str) -> None:
        if self._names[self._current] == name:
            self._current = (self._current + 1) % len(self._names)
            self._changed.notify_all()


def make_trainer(tree: Path, args: list[str]) -> Any:
    """DMD2's trainer from its own script."""
    script = load_script("sd", str(tree))
    sys.argv = ["train_sd.py", *args]
    return script.Trainer(script.parse_args())


def measure(num_steps: int, folder: Path) -> dict[str, Any]:
    """Both runs, step by step; medians in seconds, and their ratio."""
    source = DMD2.find()
    if source is None:
        raise SystemExit("no DMD2 checkout: third_party/DMD2 or DISBACK_UPSTREAMS")
    lmdb.open = functools.cache(lmdb.open)  # LMDB opens a folder once a process
    host, cwd = DMD2(source, folder), Path.cwd()
    options = ["--no_save", "--warmup_step", "0"]
    path = ["--disback", "--disback_path", str(folder / "path")]
    path += ["--disback_record_iters", "4", "--disback_record_every", "2"]
    path += ["--disback_interval", str(10 * num_steps)]
    plain = host.arguments("sdxl", folder / "a", num_steps, *options)
    disback = host.arguments("sdxl", folder / "b", num_steps, *options, *path)
    trainers = {
        "plain": make_trainer(host.plain, plain),
        "disback": make_trainer(host.patched, disback),
    }
    os.chdir(cwd)
    turns = Turns(list(trainers))
    with ThreadPoolExecutor(len(trainers)) as pool:
        runs = [pool.submit(_train, name, trainer, turns) for name, trainer in trainers.items()]
    for run in runs:
        run.result()
    return summarize(turns.spent)


def _train(name: str, trainer: Any, turns: Turns) -> None:
    step = trainer.train_one_step

    def train_one_step() -> None:
        turns.hand_over(name)
        step()

    trainer.train_one_step = train_one_step
    try:
        trainer.train()
    finally:
        turns.leave(name)


def summarize(spent: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians in seconds, of CPU and of wall time, and the ratios of the medians."""
    result: dict[str, Any] = {
        "num_steps": len(spent["plain"]) - SKIPPED,
        "torch": torch.__version__,
    }
    for kind, clock in enumerate(("cpu", "wall")):
        plain, disback = (
            statistics.median(step[kind] for step in spent[name][SKIPPED:])
            for name in ("plain", "disback")
        )
        result[clock] = {"plain": plain, "disback": disback, "ratio": disback / plain}
    return result | {"ratio": result["cpu"]["ratio"], "limit": LIMIT}


def main() -> int:
    """Print the result; exit code 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args.steps, Path(folder))
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
