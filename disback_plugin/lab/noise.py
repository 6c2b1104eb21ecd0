"""Noise as a pure function of (seed, step, stream name): resuming needs no generator state.

Every process draws the global batch on the CPU and takes its slice, so one process and many, and
all arms of a seed, see the same noise at the same step, on any device.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor


def seed_of(seed: int, step: int, stream: str) -> int:
    """A 63-bit seed from a stable hash (BLAKE2b), the same in every process and Python version."""
    digest = hashlib.blake2b(f"{seed}/{step}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(
    seed: int, step: int, stream: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh generator for one stream of one step."""
    return torch.Generator(device).manual_seed(seed_of(seed, step, stream))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch's global generator is seeded, for weights made there; then it is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Noise:
    """All random draws of one run, of which this process keeps the rows of its rank.

    device: where normal noise is drawn; a GPU's numbers are not the CPU's.
    """

    seed: int
    rank: int = 0
    num_ranks: int = 1
    device: torch.device | str = "cpu"

    def normal(self, step: int, stream: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal of global `shape` (B, ...); returns this rank's rows."""
        rows = generator(self.seed, step, stream, self.device)
        return self.share(torch.randn(shape, generator=rows, device=self.device))

    def labels(self, step: int, stream: str, num: int, num_classes: int) -> Tensor | None:
        """Uniform class labels (B,), int64; None for an unconditional problem."""
        if num_classes == 0:
            return None
        draw = torch.randint(num_classes, (num,), generator=self.generator(step, stream))
        return self.share(draw)

    def generator(self, step: int, stream: str) -> torch.Generator:
        """For draws of the global batch made elsewhere (sigmas, data); `share` the result."""
        return generator(self.seed, step, stream)

    def share(self, batch: Tensor) -> Tensor:
        """This rank's rows of a global batch (B, ...), B divisible by the number of ranks."""
        rows = batch.shape[0] // self.num_ranks
        assert rows * self.num_ranks == batch.shape[0], "the batch does not divide among the ranks"
        return batch[self.rank * rows : (self.rank + 1) * rows]

    def seed_global(self, step: int) -> None:
        """Seed torch's global generators (for dropout in a network), differently per rank."""
        seed = seed_of(self.seed, step, f"global/{self.rank}")
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # torch.manual_seed would queue up calls until it is
            torch.cuda.manual_seed_all(seed)


def make_noise(seed: int, accelerator: Accelerator, draw_on_device: bool) -> Noise:
    """This process's share of the draws of `seed`."""
    device = accelerator.device if draw_on_device else "cpu"
    return Noise(seed, accelerator.process_index, accelerator.num_processes, device)
