"""Resuming a host as if it had not been killed: the next step, every rank's random state, its data.

DMD2's checkpoints are made after a step and resumed at that same step, with rank 0's random state
only and every data loader back at its start. This adds one safetensors file to a checkpoint.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disback_plugin.adapters.overlay import random_state, side_file
from disback_plugin.distributed import gather, is_main
from disback_plugin.tensors import under

FILE_NAME = "exact_resume.safetensors"
logger = logging.getLogger("disback")


class Cycle(Iterator[Any]):
    """A data loader's batches, epoch after epoch; knows where it is.

    Reads the loader exactly as a loop over it does, so random numbers are drawn at the same places.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._batches: Iterator[Any] | None = None
        self._start: dict[str, Tensor] = {}
        self._num_drawn = 0

    def __next__(self) -> Any:
        while True:
            if self._batches is None:
                self._start, self._num_drawn = self._random_state(), 0
                self._batches = iter(self._loader)
            for batch in self._batches:
                self._num_drawn += 1
                return batch
            self._batches = None

    def state(self) -> dict[str, Tensor]:
        """Random state at the epoch's start, and how many batches were drawn since."""
        started = self._batches is not None
        return {**self._start, "num_drawn": torch.tensor(self._num_drawn)} if started else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go where `state` was; disturbs the random state, so restore that one last."""
        if not state:
            return
        torch.set_rng_state(state["torch"])
        generator = self._generator()
        if generator is not None:
            generator.set_state(state["generator"])
        if "epoch" in state:
            self._loader.iteration = int(state["epoch"])
        for _ in range(int(state["num_drawn"])):
            next(self)

    def _random_state(self) -> dict[str, Tensor]:
        generator = self._generator()
        state = {"torch": torch.get_rng_state()}
        if generator is not None:
            state["generator"] = generator.get_state()
        epoch = getattr(self._loader, "iteration", None)  # seeds accelerate's own sampler
        if isinstance(epoch, int):
            state["epoch"] = torch.tensor(epoch)
        return state

    def _generator(self) -> torch.Generator | None:
        """What accelerate keeps equal over ranks for a shuffling loader."""
        return getattr(self._loader, "synchronized_generator", None)


def collect(trainer: Any) -> None:
    """After a step, on every rank: note where all ranks are, if the trainer is about to save."""
    args = trainer.args
    trainer.exact_resume_states = None
    if not args.no_save and trainer.step % args.log_iters == 0:
        trainer.exact_resume_states = gather(_rank_state(trainer))
        if getattr(args, "fsdp", False):
            from disback_plugin.adapters.dmd2 import sharded_resume  # needs FSDP, so only here

            sharded_resume.save(trainer)


def save(trainer: Any, folder: str) -> None:
    """Write what was collected into the checkpoint, on rank 0, before its weights."""
    if trainer.exact_resume_states is not None:
        side_file.write_ranks(Path(folder) / FILE_NAME, trainer.exact_resume_states)


def load_sharded(trainer: Any, folder: str) -> bool:
    """Under FSDP, in place of accelerate's loading, which knows no such checkpoint; else False."""
    if not trainer.args.fsdp:
        return False
    from disback_plugin.adapters.dmd2 import sharded_resume  # needs FSDP, so only here

    sharded_resume.load(trainer, Path(folder))
    return True


def load(trainer: Any, folder: str) -> None:
    """On every rank, after the trainer loaded the checkpoint: go on with the step after it."""
    file = Path(folder) / FILE_NAME
    if not file.exists():
        logger.warning("%s has no %s: the trainer resumes in its own way", folder, FILE_NAME)
        return
    own = side_file.read_own_rank(file)
    for name, cycle in _cycles(trainer):
        place = under(f"{name}/", own)
        if is_main() and place:  # a warning, so that it shows without a logging set-up
            logger.warning("resuming: %s replays %d batches", name, int(place["num_drawn"]))
        cycle.restore(place)
    random_state.put_back(own)
    trainer.step += 1


def _cycles(trainer: Any) -> list[tuple[str, Cycle]]:
    return [
        (name, value) for name, value in sorted(vars(trainer).items()) if isinstance(value, Cycle)
    ]


def _rank_state(trainer: Any) -> dict[str, Tensor]:
    state = random_state.take()
    for name, cycle in _cycles(trainer):
        state.update({f"{name}/{key}": value for key, value in cycle.state().items()})
    return state
