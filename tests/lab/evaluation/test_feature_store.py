"""Images are read ahead of the network by threads, whose number and speed change nothing."""

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from disback_plugin.lab.evaluation import feature_store
from disback_plugin.lab.evaluation.feature_store import FeatureStore, fill
from disback_plugin.lab.evaluation.networks import Given
from disback_plugin.lab.evaluation.samples import Images
from tests.lab.evaluation.conftest import pixels

NUM = 29  # with SHARD 8 and BLOCK 3: the last shard and the last blocks have fewer


def test_a_stop_drops_what_was_to_be_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "NUM_READERS", 1)
    stopped = threading.Event()
    after: list[int] = []

    def load(number: int) -> np.ndarray:
        if stopped.is_set():
            after.append(number)
        time.sleep(0.01)
        return np.zeros((3, 2, 2), np.uint8)

    def features(_: Tensor) -> Tensor:
        stopped.set()
        raise KeyboardInterrupt

    images = Images(path=tmp_path, num=NUM, load=load, identity="x", seeds=np.arange(NUM))
    store = FeatureStore(tmp_path / "store", NUM, "x", ["pool"])
    network = Given("none", None, features)
    with pytest.raises(KeyboardInterrupt):
        list(fill(store, images, network, lambda image: image, torch.device("cpu")))
    assert len(after) <= 2


@pytest.mark.parametrize("num_readers", [1, 2, 7])
def test_threads_read_ahead_in_order_across_shards_and_no_further(
    num_readers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "NUM_READERS", num_readers)
    rows = pixels(NUM, seed=3).transpose(0, 3, 1, 2)
    read: list[int] = []
    ahead: list[int] = []

    def load(number: int) -> np.ndarray:
        time.sleep(0.004 * ((number * 5) % 3))  # some images take longer than those after them
        read.append(number)
        return rows[number]

    def features(images: Tensor) -> Tensor:
        time.sleep(0.02)
        seen.extend(images[:, 0, 0, 0].tolist())
        ahead.append(len(read) - len(seen))
        return images.float().flatten(1)[:, :5]

    seen: list[int] = []
    images = Images(path=tmp_path, num=NUM, load=load, identity="x", seeds=np.arange(NUM))
    store = FeatureStore(tmp_path / "store", NUM, "x", ["pool"])
    network = Given("first pixels", None, features)
    sizes = list(fill(store, images, network, lambda image: image, torch.device("cpu")))

    assert sizes == [8, 8, 8, 5]
    assert seen == rows[:, 0, 0, 0].tolist()
    found = torch.cat(list(store.pieces("pool"))).numpy()
    assert np.array_equal(found, rows.reshape(NUM, -1)[:, :5])
    assert sorted(read) == list(range(NUM))
    # while the network looks at a block, as many images as AHEAD and one more blocks have
    assert max(ahead) <= (feature_store.AHEAD + 1) * feature_store.BLOCK
    assert any(count > 0 for count in ahead)
    due = hashlib.sha256()
    for shard in range(4):
        pixels_of = hashlib.sha256()
        for row in rows[8 * shard : 8 * shard + 8]:
            pixels_of.update(repr(row.shape).encode() + row.tobytes())
        due.update(pixels_of.hexdigest().encode())
    assert store.pixels_digest() == due.hexdigest()
