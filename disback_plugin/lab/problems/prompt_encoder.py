"""From numbers of prompts to their embeddings, each distinct prompt encoded once."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from disback_plugin.diffusion import TextCondition
from disback_plugin.pretrained import load_text_encoder
from disback_plugin.pretrained.formats import TextEncoder

CACHE_SIZE = 2048  # prompts: 0.5 GB of SD 1.5's embeddings, 1.3 GB of SDXL's, in host memory


class PromptEncoder:
    """Called with labels, which are numbers of prompts; the newest CACHE_SIZE stay in memory.

    A prompt is encoded alone: in a batch its last bits would depend on its neighbours, and so on
    what the cache held, and a resumed run would differ from one that was never stopped.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        spec: str,
        options: Mapping[str, Any],
        cache_size: int = CACHE_SIZE,
    ) -> None:
        self.prompts, self.spec, self.options = prompts, spec, options
        self.cache_size = cache_size
        self._cache: OrderedDict[int, TextCondition] = OrderedDict()
        self._encoder: TextEncoder | None = None

    def __call__(self, labels: Tensor | None, device: torch.device) -> TextCondition:
        """labels (B,) int64 -> the embeddings of these prompts on `device`."""
        assert labels is not None
        rows = [self._one(number, device) for number in labels.tolist()]
        return TextCondition.cat(rows).to(device)

    def _one(self, number: int, device: torch.device) -> TextCondition:
        found = self._cache.pop(number, None)
        if found is None:
            if self._encoder is None:
                self._encoder = load_text_encoder(self.spec, **self.options).to(device)
            found = self._encoder([self.prompts[number]]).to(torch.device("cpu"))
        self._cache[number] = found  # last: the newest
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return found
