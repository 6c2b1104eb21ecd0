"""VAE latents in files, with the prompt of each: what a latent LMDB is made of."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from disback_plugin.errors import DataError, count

PROMPTS_FILE = "prompts.txt"
TENSOR = "latents"
SUFFIXES = (".safetensors", ".npy")


@dataclass(frozen=True)
class LatentSource:
    """Opened files, each indexed by row and with its number of rows, and one prompt a row."""

    files: Sequence[tuple[Any, int]]
    prompts: Sequence[str]

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, num: int) -> Iterator[tuple[np.ndarray, str]]:
        """`num` latents (C, H, W), evenly spread over all, with prompts; read lazily."""
        ends = list(accumulate(rows for _, rows in self.files))
        for position in (number * len(self) // num for number in range(num)):
            which = bisect_right(ends, position)
            file, rows = self.files[which]
            yield file[position - ends[which] + rows], self.prompts[position]


def is_latents(folder: Path) -> bool:
    """Whether there are files of latents in the folder."""
    return folder.is_dir() and bool(_files(folder))


def open_latents(folder: Path) -> LatentSource:
    """.npy files (N, C, H, W), or .safetensors with such a tensor "latents", in the order of their
    names, and prompts.txt with one prompt a line for all of them.

    Latents are stored as they are: DMD2 expects them multiplied by the VAE's scaling factor. Raises
    DataError naming the file.
    """
    files = [_open(file) for file in _files(folder)]
    if not files:
        raise DataError(f"{folder} holds no latents ({', '.join(SUFFIXES)})")
    num = sum(rows for _, rows in files)
    listed = folder / PROMPTS_FILE
    if not listed.is_file():
        raise DataError(f"{listed} is missing: it needs one line for each of {num} latents")
    try:
        prompts = listed.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{listed} is not UTF-8: {error}") from None
    if len(prompts) != num:
        raise DataError(f"{listed} has {count(len(prompts), 'line')} for {count(num, 'latent')}")
    return LatentSource(files, prompts)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def _open(file: Path) -> tuple[Any, int]:
    try:
        if file.suffix.lower() == ".npy":
            rows: Any = np.load(file, mmap_mode="r", allow_pickle=False)
            shape, dtype = rows.shape, rows.dtype.str[1:]
        else:
            stored = safe_open(file, "pt")
            if TENSOR not in stored.keys():  # noqa: SIM118
                raise DataError(f"{file} has no tensor {TENSOR!r}, but {', '.join(stored.keys())}")
            tensor = stored.get_slice(TENSOR)
            rows, shape, dtype = _Floats(tensor), tuple(tensor.get_shape()), tensor.get_dtype()
    except DataError:
        raise
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not dtype.upper().startswith(("F", "BF")):
        raise DataError(f"{file}: latents are of type {dtype}, not floating-point")
    if len(shape) != 4:
        raise DataError(f"{file}: latents have shape {shape}, not (N, C, H, W)")
    return rows, shape[0]


class _Floats:
    """Rows of a safetensors slice as float32 arrays: NumPy has no bfloat16."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __getitem__(self, row: int) -> np.ndarray:
        return self._tensor[row].float().numpy()
