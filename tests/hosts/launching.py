"""Runs of a host's driver in processes of their own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def launch(
    driver: str,
    jobs: list[dict[str, Any]],
    folder: Path,
    num_processes: int = 1,
    env: dict[str, str] | None = None,
) -> list[int]:
    """Run jobs, one after another in the same process(es) of `python -m driver`; the exit codes."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    common |= {"CUDA_VISIBLE_DEVICES": "", **(env or {})}
    if num_processes > 1:
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        common |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
    processes = []
    for rank in range(num_processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_processes > 1 else {}
        log = (folder / f"log.{rank}").open("w")
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", driver, str(file)],
                env={**common, **own},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        )
    return [process.wait(timeout=150) for process in processes]


def succeed(codes: list[int], folder: Path) -> None:
    """Fail with the end of the logs unless all processes ended well."""
    logs = [(folder / f"log.{rank}").read_text()[-3000:] for rank in range(len(codes))]
    assert not any(codes), "\n".join(logs)


def notes(out: Path, rank: int = 0) -> list[dict[str, Any]]:
    """What a run noted, one entry a step."""
    lines = (out / f"notes.{rank}").read_text().splitlines()
    return [json.loads(line) for line in lines]


def free_port() -> int:
    """A port for a process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
