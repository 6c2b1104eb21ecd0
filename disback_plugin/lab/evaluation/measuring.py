"""Features of image sets, made by all processes together, kept until the result is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disback_plugin.distributed import gather, is_main
from disback_plugin.errors import DataError
from disback_plugin.lab.data.optional import needed
from disback_plugin.lab.evaluation.feature_store import SHARD, FeatureStore, fill
from disback_plugin.lab.evaluation.networks import FeatureNetwork
from disback_plugin.lab.evaluation.pixels import preparing
from disback_plugin.lab.evaluation.protocol import Pixels
from disback_plugin.lab.evaluation.samples import Images
from disback_plugin.sealed import digest


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """folder: of features, until the result is written. share: this process's number, of how many.

    progress: whether the main process draws a bar.
    """

    folder: Path
    device: torch.device
    share: tuple[int, int] = (0, 1)
    progress: bool = False

    def measure(
        self,
        name: str,
        images: Images,
        pixels: Pixels,
        network: FeatureNetwork,
        layers: Sequence[str],
    ) -> FeatureStore:
        """The features of all images, complete; what an earlier try made of them counts."""
        what = [images.identity, len(images), str(pixels), network.name, network.digest]
        # features of a block are the same everywhere on one kind of device only
        identity = digest([*what, *layers, self.device.type, torch.__version__])
        store = FeatureStore(self.folder / name, len(images), identity, layers)
        done = max(0, len(images) - len(store.missing()) * SHARD)
        with self._bar(name, len(images), done) as bar:
            prepare = preparing(pixels)
            for num in fill(store, images, network, prepare, self.device, self.share):
                bar.update(num * self.share[1])
        gather(None, f"measuring {images.path}")
        if left := store.missing():
            raise DataError(f"{store.folder} lacks shard {left[0]}: give the same command again")
        return store

    def _bar(self, name: str, num: int, done: int) -> Any:
        tqdm = needed("tqdm", "a progress bar", extra="eval").tqdm
        hidden = not (self.progress and is_main())
        return tqdm(total=num, initial=done, unit="image", desc=name, disable=hidden)


def rows_of(store: FeatureStore, layer: str, rows: np.ndarray | None = None) -> Tensor:
    """All features of the rows at once, (n, d) float32: 410 MB for 50,000 of Inception's."""
    num, start = store.num_images if rows is None else len(rows), 0
    whole = torch.empty(0)
    for piece in store.pieces(layer, rows):
        if start == 0:  # one allocation: pieces joined in the end would take twice the memory
            whole = torch.empty(num, piece.shape[1])
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole
