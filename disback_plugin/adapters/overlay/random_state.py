"""This process's random state as a few small tensors, for a checkpoint, and back."""

import random
from collections.abc import Mapping

import torch
from torch import Tensor


def take(*, python: bool = False) -> dict[str, Tensor]:
    """torch's state, on the CPU and on this process's GPU; with `python`, that of `random` too."""
    state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if python:
        version, numbers, _ = random.getstate()  # a half of a pair of normal ones is not kept
        state["python"] = torch.tensor([version, *numbers])
    return state


def put_back(state: Mapping[str, Tensor]) -> None:
    """Draw from here on as after `take`; a GPU's state is left out where there is none."""
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "python" in state:
        version, *numbers = state["python"].tolist()
        random.setstate((version, tuple(numbers), None))
