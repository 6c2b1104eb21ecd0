"""VAE latents in files, with the prompt of each: what a latent LMDB is made of."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from disback_plugin.errors import DataError, count
from disback_plugin.lab.data import file_order
from disback_plugin.lab.data.image_files import kinds
from disback_plugin.lab.data.prompts import MAX_PROMPT
from disback_plugin.reading import cut, read_text, require_regular, told

PROMPTS_FILE = "prompts.txt"
TENSOR = "latents"
SUFFIXES = (".safetensors", ".npy")
MAX_PROMPTS_FILE = 1 << 32


@dataclass(frozen=True)
class LatentSource:
    """Opened files, each indexed by row and with its number of rows, and one prompt a row.

    names: of the files. decided: how files and prompts were found, for people.
    """

    files: Sequence[tuple[Any, int]]
    prompts: Sequence[str]
    names: Sequence[str] = ()
    decided: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, num: int) -> Iterator[tuple[np.ndarray, str]]:
        """`num` latents (C, H, W), evenly spread over all, with prompts; read lazily."""
        for position in (number * len(self) // num for number in range(num)):
            which, row = self._at(position)
            yield self.files[which][0][row], self.prompts[position]

    def sample(self, position: int) -> str:
        """Where latent `position` lies, and its prompt, for people."""
        which, row = self._at(position)
        return f"{cut(self.names[which])}, row {row} -> {cut(self.prompts[position], 200)}"

    def _at(self, position: int) -> tuple[int, int]:
        which = bisect_right(self._ends, position)
        return which, position - self._ends[which] + self.files[which][1]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(rows for _, rows in self.files))


def is_latents(folder: Path) -> bool:
    """Whether there are files of latents in the folder."""
    return folder.is_dir() and bool(_files(folder))


def open_latents(folder: Path) -> LatentSource:
    """.npy files (N, C, H, W), or .safetensors with such a tensor "latents", in the order of their
    names, numbers counting as such, and prompts.txt with one prompt a line for all of them.

    Latents are stored as they are: DMD2 expects them multiplied by the VAE's scaling factor. Raises
    DataError naming the file.
    """
    names = file_order.in_order(_files(folder))
    file_order.refuse_guesses(folder, names)
    files = [_open(folder / name) for name in names]
    if not files:
        raise DataError(f"{folder} holds no latents ({', '.join(SUFFIXES)})")
    num = sum(rows for _, rows in files)
    prompts, said = _prompts(folder / PROMPTS_FILE, num)
    others = [item.name for item in folder.iterdir() if item.name not in {*names, PROMPTS_FILE}]
    return LatentSource(
        files,
        prompts,
        names,
        [
            f"{folder}: {count(num, 'latent')} in {count(len(names), 'file')} ({kinds(names)})"
            + (f"; not read: {kinds(others)}" if others else ""),
            f"order: {file_order.said(names)}{file_order.gaps(names)}",
            f"prompts: {said}",
        ],
    )


def _prompts(listed: Path, num: int) -> tuple[list[str], str]:
    """One a line; the file's end may or may not end the last one."""
    if not listed.exists():
        raise DataError(f"{listed} is missing: it needs one line for each of {num} latents")
    prompts = read_text(listed, DataError, MAX_PROMPTS_FILE).removesuffix("\n").split("\n")
    blank = sum(not prompt.strip() for prompt in prompts)
    blanks = f", {blank:,} of them blank" if blank else ""
    if len(prompts) != num:
        lines = count(len(prompts), "line")
        raise DataError(f"{listed} has {lines} for {count(num, 'latent')}{blanks}")
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) > MAX_PROMPT or "\r" in prompt:
            seen = f"{len(prompt):,} characters" if len(prompt) > MAX_PROMPT else "a bare CR in it"
            raise DataError(f"{listed}, line {number} has {seen}: give one prompt a line")
    return prompts, f"line by line from {PROMPTS_FILE}{blanks}"


def _files(folder: Path) -> list[str]:
    names = [item.name for item in folder.iterdir() if not item.name.startswith(".")]
    return [name for name in names if Path(name).suffix.lower() in SUFFIXES]


def _open(file: Path) -> tuple[Any, int]:
    require_regular(file, DataError)
    try:
        if file.suffix.lower() == ".npy":
            rows: Any = np.lib.format.open_memmap(file, mode="r")
            shape, dtype = rows.shape, rows.dtype.str[1:]
        else:
            stored = safe_open(file, "pt")
            if TENSOR not in stored.keys():  # noqa: SIM118
                there = cut(", ".join(stored.keys()))
                raise DataError(f"{file} has no tensor {TENSOR!r}, but {there}")
            tensor = stored.get_slice(TENSOR)
            rows, shape, dtype = _Floats(tensor), tuple(tensor.get_shape()), tensor.get_dtype()
    except DataError:
        raise
    except Exception as error:  # of NumPy or safetensors, on a file that is damaged
        raise DataError(f"{file} cannot be read: {told(error)}") from None
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
