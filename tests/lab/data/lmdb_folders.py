"""Small LMDB folders for the tests: what goes in, what lies there, and how to damage it."""

from pathlib import Path

import lmdb
import numpy as np
import torch

NUM = 12
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 3, 4, 6), dtype=np.uint8)
LABELS = [number % 5 for number in range(NUM)]
LATENTS = np.random.default_rng(1).standard_normal((NUM, 4, 2, 2)).astype(np.float32)
PROMPTS = ["a dog", "", "café 東京", *(f"prompt {number}" for number in range(3, NUM))]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def contents(folder: Path) -> dict[bytes, bytes]:
    environment = lmdb.open(str(folder), readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def edit(folder: Path, **entries: bytes | None) -> None:
    environment = lmdb.open(str(folder), lock=False)
    with environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            if value is None:
                transaction.delete(key.encode())
            else:
                transaction.put(key.encode(), value)


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))
