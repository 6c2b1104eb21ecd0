"""Prompt data sets for text-to-image distillation: the prompts alone, no images."""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from disback_plugin.errors import DataError
from disback_plugin.lab.data import prompt_files

HUB = "hf:"
FORMATS = (
    ".txt (one prompt a line), .parquet, .csv, .jsonl, .pkl (a list of strings), a folder of "
    f"datasets.save_to_disk, or {HUB}OWNER/NAME on the Hugging Face hub"
)


class PromptSet(Sequence[str]):
    """Prompts packed as UTF-8 end to end: millions cost their bytes, and processes share them.

    Blank ones and nulls are left out; `num_dropped` tells how many.
    """

    def __init__(self, name: str, prompts: Iterable[str | None]) -> None:
        self.name = name
        self.num_dropped = 0
        text, ends = bytearray(), array("q", [0])
        for prompt in prompts:
            if prompt is None or not (prompt := prompt.strip()):
                self.num_dropped += 1
                continue
            try:
                text += prompt.encode()
            except UnicodeEncodeError:
                raise DataError(
                    f"{name}: prompt {len(ends) - 1 + self.num_dropped} is no valid text: "
                    f"{prompt[:60]!r}"
                ) from None
            ends.append(len(text))
        if len(ends) == 1:
            raise DataError(f"{name} has no prompts ({self.num_dropped} blank ones)")
        self._text, self._ends = text, np.frombuffer(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        index = range(len(self))[index]  # negative indices, IndexError
        return self._text[self._ends[index] : self._ends[index + 1]].decode()

    def batch(self, num: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """`num` indices (num,) int64 drawn with replacement by a CPU generator, and their prompts.

        The indices let a caller look up text embeddings that it computed once.
        """
        index = torch.randint(len(self), (num,), generator=generator)
        return index, [self[number] for number in index.tolist()]


def load_prompts(
    spec: str | Path,
    *,
    column: str | None = None,
    split: str | None = None,
    trust_pickle: bool = False,
) -> PromptSet:
    """The prompts of a file, a folder or a data set on the hub; see FORMATS.

    `column` is needed where a table has several that could be prompts, `split` where a data set has
    several splits and no "train". Nothing is ever executed: a .pkl is refused unless
    `trust_pickle`, and read as plain containers and strings even then. Raises DataError.
    """
    name = str(spec)
    if name.startswith(HUB):
        return PromptSet(name, prompt_files.read_hub(name.removeprefix(HUB), column, split))
    path = Path(spec)
    if not path.exists():
        raise DataError(f"there are no prompts at {path}; known formats: {FORMATS}")
    if path.is_dir():
        return PromptSet(name, prompt_files.read_folder(path, column, split))
    suffix = path.suffix.lower()
    if split is not None:
        raise DataError(f"{path} is one file without splits: leave split={split!r} out")
    if suffix in prompt_files.READERS:
        return PromptSet(name, prompt_files.READERS[suffix](path, column))
    if column is not None:
        raise DataError(f"{path} has no columns: leave column={column!r} out")
    if suffix == ".txt":
        return PromptSet(name, prompt_files.read_lines(path))
    if suffix in (".pkl", ".pickle"):
        return PromptSet(name, prompt_files.read_pickle(path, trust_pickle))
    raise DataError(f"{path}: prompts cannot be read from {suffix!r}; known formats: {FORMATS}")
