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
from disback_plugin.reading import local_path, require_regular, shown

HUB = "hf:"
MAX_PROMPT = 1 << 16  # characters; text encoders read some hundred words
FORMATS = (
    ".txt (one prompt a line), .parquet, .csv, .jsonl, .pkl (a list of strings), a folder of "
    f"datasets.save_to_disk, or {HUB}OWNER/NAME on the Hugging Face hub"
)


class PromptSet(Sequence[str]):
    """Prompts packed as UTF-8 end to end: millions cost their bytes, and processes share them.

    Blank ones and nulls are left out; `num_dropped` tells how many. Raises DataError for one that
    is longer than MAX_PROMPT or holds a NUL, as what is no text does.
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
                raise self._refused(len(ends), prompt) from None
            if len(prompt) > MAX_PROMPT or "\0" in prompt:
                raise self._refused(len(ends), prompt)
            ends.append(len(text))
        if len(ends) == 1:
            raise DataError(f"{name} has no prompts ({self.num_dropped} blank ones)")
        self._text, self._ends = text, np.frombuffer(ends, dtype=np.int64)

    def _refused(self, number: int, prompt: str) -> DataError:
        return DataError(
            f"{self.name}: prompt {number - 1 + self.num_dropped} is no valid text "
            f"({len(prompt):,} characters): {shown(prompt)}"
        )

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
    path = local_path(Path(spec))
    if not path.exists():
        raise DataError(f"there are no prompts at {path}; known formats: {FORMATS}")
    if path.is_dir():
        return PromptSet(name, prompt_files.read_folder(path, column, split))
    require_regular(path, DataError)
    suffix = path.suffix.lower()
    if split is not None:
        raise DataError(f"{path} is one file without splits: leave split={split!r} out")
    if suffix in prompt_files.READERS:
        return PromptSet(name, prompt_files.READERS[suffix](path, column))
    if column is not None:
        raise DataError(f"{path} has no columns: leave column={column!r} out")
    if suffix == ".txt":
        return PromptSet(name, prompt_files.read_lines(path, MAX_PROMPT))
    if suffix in (".pkl", ".pickle"):
        return PromptSet(name, prompt_files.read_pickle(path, trust_pickle))
    raise DataError(f"{path}: prompts cannot be read from {suffix!r}; known formats: {FORMATS}")
