"""Several ranks as torchrun starts them, without its own start-up and torch's in every one."""

import os
from collections.abc import Callable
from typing import Any

import torch

from disback_plugin.testing.ranks import start_ranks
from tests.adapters.launching import free_port


def on_ranks(run: Callable[..., Any], *args: Any, num_ranks: int = 2) -> None:
    """`run(*args)` on every rank, where it can be imported; raises what one raises."""
    start_ranks(_run, (num_ranks, free_port(), run, args), num_ranks)


def _run(rank: int, num_ranks: int, port: int, run: Callable[..., Any], args: Any) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "MASTER_PORT": port}
    place |= {"LOCAL_WORLD_SIZE": num_ranks, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in place.items()}
    torch.set_num_threads(1)
    code = run(*args)  # of a command; else whatever it returns
    assert not isinstance(code, int) or code == 0, f"rank {rank} of {run} ended with {code}"
