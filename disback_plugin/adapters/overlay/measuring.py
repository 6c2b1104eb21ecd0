"""What an adapter's measure needs of any host: draws of its own, and the host left as it was."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from disback_plugin.adapters.overlay import random_state
from disback_plugin.distributed import on_every, rank, world_size
from disback_plugin.measure import FEW

SHARE = 4  # a quarter of a batch, where that is more than FEW on all ranks together
# A network's residuals on `num` samples of the student as it is, and these: two (num, *data).
Ask = Callable[[nn.Module, int], tuple[Tensor, Tensor]]
Rows = TypeVar("Rows")


class HostMeasure:
    """A host's measure, in chunks of at most its batch: no more memory than its steps take.

    asks: may draw from torch's global generators, whose state is the same at every call of the
    measure and another on each rank; they meet `host`, which holds all networks, in eval mode, and
    without gradients. Every rank asks for as many chunks: networks may be sharded.
    Where the host's samples are of several kinds there are several ways to ask: as many of each.
    """

    def __init__(self, asks: Sequence[Ask], host: nn.Module, batch_size: int) -> None:
        self._asks, self._host, self._batch_size = asks, host, batch_size

    def __call__(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Of a network that is one of the host's."""
        num_samples = max(math.ceil(FEW / world_size()), self._batch_size // SHARE)
        chunks = []
        with _as_it_was(self._host), torch.no_grad():
            _seed(rank())
            for ask in self._asks:
                left = math.ceil(num_samples / len(self._asks))
                while left:
                    num = min(left, self._batch_size)
                    chunks.append(ask(network, num))
                    left -= num
        residuals, samples = zip(*chunks, strict=True)
        return torch.cat(residuals), torch.cat(samples)


def drawn(draw: Callable[[], Rows]) -> Rows:
    """Rows of the host's data, before a network is asked: what fails here is raised on all ranks.

    Else the others would wait for this one, in a network that is sharded.
    """
    rows: list[Rows] = []
    on_every(lambda: rows.append(draw()), "reading the host's data for the measure")
    return rows[0]


@contextmanager
def _as_it_was(host: nn.Module) -> Iterator[None]:
    """In eval mode within; afterwards modes and generators are what they were."""
    modes = [(part, part.training) for part in host.modules()]
    random = random_state.take()
    try:
        host.eval()
        yield
    finally:
        random_state.put_back(random)
        for part, training in modes:
            part.training = training


def _seed(seed: int) -> None:
    """This process's generators: of the CPU, and of its own GPU alone."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)
