"""Resuming SwiftBrush as if it had not been killed: its data's place, every rank's random state.

Its checkpoints hold rank 0's random state only, and the data starts a new epoch at a resume.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from disback_plugin.adapters.dmd2.exact_resume import FILE_NAME, Cycle
from disback_plugin.adapters.overlay import random_state, side_file
from disback_plugin.distributed import gather, is_main
from disback_plugin.tensors import under

logger = logging.getLogger("disback")
_DATA = "data/"


class Epochs:
    """A data loader: each pass over it is an epoch, the first after a resume the epoch's rest."""

    def __init__(self, loader: Any) -> None:
        self._loader, self._cycle = loader, Cycle(loader)
        self._states: list[dict[str, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for _ in range(len(self) - self._num_drawn() % len(self)):
            yield next(self._cycle)

    def collect(self, global_step: int, args: argparse.Namespace) -> None:
        """After a step, on every rank: note where all ranks are, if the script is about to save."""
        self._states = None
        is_last = global_step == args.max_train_steps
        if is_last or global_step % args.checkpointing_steps == 0:
            place = {f"{_DATA}{name}": value for name, value in self._cycle.state().items()}
            self._states = gather({**random_state.take(python=True), **place})

    def save(self, folder: str) -> None:
        """Write what was collected into the checkpoint, on rank 0, before its weights."""
        assert self._states is not None
        side_file.write_ranks(Path(folder) / FILE_NAME, self._states)

    def load(self, folder: str) -> None:
        """On every rank, after accelerate loaded the checkpoint (and with it rank 0's state)."""
        file = Path(folder) / FILE_NAME
        if not file.exists():
            logger.warning("%s has no %s: the data starts a new epoch", folder, FILE_NAME)
            return
        own = side_file.read_own_rank(file)
        # saving an EMA draws random numbers, on rank 0 and after `collect`: accelerate knows better
        state = random_state.take(python=True) if is_main() else own
        place = under(_DATA, own)
        if is_main():
            logger.warning("resuming: replaying %d batches", int(place["num_drawn"]))
        self._cycle.restore(place)
        random_state.put_back(state)

    def _num_drawn(self) -> int:
        return int(self._cycle.state().get("num_drawn", 0))
