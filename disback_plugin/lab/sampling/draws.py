"""What each image is drawn from: the noise and the label of its own seed, wherever it is made."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from disback_plugin.lab.sampling.plan import LabelRule

AHEAD = 3  # batches that are drawn while the network works


@dataclass(frozen=True)
class Draw:
    """A batch: z (B, *data) and labels (B,) int64 or None, of which the first `seeds` count.

    The rows after them fill the batch up: a network's result may depend on the shape of its batch.
    """

    seeds: Sequence[int]
    z: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class SeededDraws:
    """Image i is drawn from the CPU's generator of seed i: its noise first, then its label.

    That is the order of NVlabs/edm's generate.py. num_labels: classes, or prompts; 0: none.
    """

    data_shape: tuple[int, ...]
    num_labels: int
    rule: LabelRule | None

    def batches(self, batches: Sequence[Sequence[int]], size: int) -> Iterator[Draw]:
        """The batches of these seeds, each of `size` rows, drawn ahead by a thread."""
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[Draw]] = []
            for seeds in batches:
                waiting.append(pool.submit(self.batch, seeds, size))
                if len(waiting) > AHEAD:
                    yield waiting.pop(0).result()
            for draw in waiting:
                yield draw.result()

    def batch(self, seeds: Sequence[int], size: int) -> Draw:
        """One batch; rows that fill it up repeat the last seed."""
        rows = [*seeds, *[seeds[-1]] * (size - len(seeds))]
        drawn = [self.one(seed) for seed in rows]
        labels = [label for _, label in drawn if label is not None]
        z = torch.stack([noise for noise, _ in drawn])
        return Draw(seeds, z, torch.tensor(labels) if labels else None)

    def one(self, seed: int) -> tuple[Tensor, int | None]:
        """The noise and the label of one image."""
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(self.data_shape, generator=generator)
        if not self.num_labels:
            return noise, None
        if self.rule == "random":
            return noise, int(torch.randint(self.num_labels, (), generator=generator))
        return noise, seed % self.num_labels if self.rule == "balanced" else self.rule
