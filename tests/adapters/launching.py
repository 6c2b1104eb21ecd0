"""Jobs of a host's driver, in processes of their own."""

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Ours, and what all processes of a launch have in common."""
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    return {**os.environ, **settings, "PYTHONPATH": str(ROOT)}


class Server:
    """A process that has imported what hosts import; the processes of a launch are its forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.adapters.driver"],
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def launch(self, driver: str, file: Path, processes: list[dict[str, Any]]) -> list[int]:
        """The exit codes of processes, each with its `env` and `log`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"driver": driver, "file": str(file), "processes": processes}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@functools.cache
def _server() -> Server:
    server = Server()
    atexit.register(server.close)
    return server


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
    processes = []
    for rank in range(num_processes):
        own = environment() | (env or {})
        if num_processes > 1:
            own |= {"MASTER_ADDR": "127.0.0.1", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            own |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
        processes.append({"env": own, "log": str(folder / f"log.{rank}")})
    return _server().launch(driver, file, processes)


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
