"""Jobs of a host's driver, in processes of their own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 600


def launch(
    driver: str,
    jobs: list[dict[str, Any]],
    folder: Path,
    num_processes: int = 1,
    env: dict[str, str] | None = None,
) -> list[int]:
    """Run jobs, one after another in the same process(es) of a driver; the exit codes."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    common |= {"CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1", **(env or {})}
    if num_processes > 1:
        common |= {"MASTER_ADDR": "127.0.0.1"}
        common |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
    processes = []
    for rank in range(num_processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_processes > 1 else {}
        with (folder / f"log.{rank}").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.adapters.driver", driver, str(file)],
                    env={**common, **own},
                    cwd=ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        return [process.wait(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()


def log(folder: Path, rank: int = 0) -> str:
    """What a process of a launch printed."""
    return (folder / f"log.{rank}").read_text()


def succeed(codes: list[int], folder: Path) -> None:
    """Fail with the end of the logs unless all processes ended well."""
    assert not any(codes), "\n".join(log(folder, rank)[-3000:] for rank in range(len(codes)))


def free_port() -> int:
    """A port for a process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
