"""Prompts alone: what is to be drawn is what a teacher that takes text draws for them."""

import logging
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from disback_plugin.diffusion import TextCondition
from disback_plugin.errors import ConfigError, count
from disback_plugin.lab.data import load_prompts
from disback_plugin.lab.problems.base import Problem, ProblemSettings, TeacherSource
from disback_plugin.lab.problems.samples import SamplesEvaluator, samples_file
from disback_plugin.pretrained import load_text_encoder
from disback_plugin.pretrained.formats import TextEncoder

CACHE_SIZE = 2048  # prompts: 0.5 GB of SD 1.5's embeddings, 1.3 GB of SDXL's, in host memory
CACHE_BYTES = 2 << 30  # Flux's 512 tokens have 8.4 MB a prompt in float32

_log = logging.getLogger(__name__)


class PromptsConfig(ProblemSettings):
    """Prompts alone, for a teacher that takes text; judged against the teacher's own samples.

    `column`, `split`: of a table or a data set; `trust_pickle`: read a .pkl (nothing in it is run).
    first: so many prompts, from the file's start; None: all. encode_ahead: all of them are encoded
    before the first step, once a process, kept in host memory in bfloat16 (a prompt of SDXL 0.3 MB,
    of Flux 4.2 MB), and the encoders are freed; otherwise prompts are encoded as they come, and the
    encoders stay.
    """

    kind: Literal["prompts"] = "prompts"
    file: str
    column: str | None = None
    split: str | None = None
    trust_pickle: bool = False
    first: int | None = Field(default=None, gt=0)
    encode_ahead: bool = False

    metric_names: ClassVar = ("energy_distance",)

    def _load(self, teacher: TeacherSource | None) -> "PromptsProblem":
        teacher = of_text(teacher, self.kind)
        prompts = load_prompts(
            self.file, column=self.column, split=self.split, trust_pickle=self.trust_pickle
        )
        if prompts.num_dropped:
            blank = count(prompts.num_dropped, "blank prompt")
            _log.warning("%s: %s left out, %s stay", self.file, blank, f"{len(prompts):,}")
        chosen = prompts[: self.first]
        return PromptsProblem(
            data_shape=teacher.description.data_shape,
            num_classes=len(chosen),
            condition=PromptEncoder(chosen, teacher.spec, teacher.options, ahead=self.encode_ahead),
        )


@dataclass(frozen=True, kw_only=True)
class PromptsProblem(Problem):
    """No data; labels number the prompts."""

    kind = "prompts"
    takes_text = True

    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> SamplesEvaluator:
        return SamplesEvaluator(samples_file(folder))


def of_text(teacher: TeacherSource | None, kind: str) -> TeacherSource:
    """The teacher, where it takes text; else ConfigError."""
    if teacher is None or teacher.description.condition != "text":
        raise ConfigError(
            f"problem kind {kind!r} needs a teacher that takes text: teacher: diffusers:REPO_OR_DIR"
        )
    return teacher


class PromptEncoder:
    """Called with labels, which are numbers of prompts; the newest CACHE_SIZE stay in memory.

    At most CACHE_BYTES of them.

    A prompt is encoded alone: in a batch its last bits would depend on its neighbours, and so on
    what the cache held, and a resumed run would differ from one that was never stopped.
    ahead: the first call encodes all, in bfloat16, and frees the encoders; all stay.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        spec: str,
        options: Mapping[str, Any],
        cache_size: int = CACHE_SIZE,
        ahead: bool = False,
    ) -> None:
        self.prompts, self.spec, self.options = prompts, spec, options
        self.cache_size, self._ahead = cache_size, ahead
        self._cache: OrderedDict[int, TextCondition] = OrderedDict()
        self._encoder: TextEncoder | None = None
        self._held = 0  # bytes in the cache

    def __call__(self, labels: Tensor | None, device: torch.device) -> TextCondition:
        """labels (B,) int64 -> the embeddings of these prompts on `device`."""
        assert labels is not None
        if self._ahead and not self._cache:
            self._encode_all(device)
        rows = [self._one(number, device) for number in labels.tolist()]
        return TextCondition.cat(rows).to(device)

    def _encode_all(self, device: torch.device) -> None:
        self.cache_size = len(self.prompts)
        for number in range(len(self.prompts)):
            self._keep(number, self._one(number, device).to(torch.bfloat16))
        self._encoder = None
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _one(self, number: int, device: torch.device) -> TextCondition:
        found = self._cache.get(number)
        if found is None:
            if self._encoder is None:
                self._encoder = load_text_encoder(self.spec, **self.options).to(device)
            found = self._encoder([self.prompts[number]]).to(torch.device("cpu"))
        self._keep(number, found)
        return found

    def _keep(self, number: int, encoded: TextCondition) -> None:
        """As the newest; the oldest go, unless all are to stay."""
        before = self._cache.pop(number, None)
        self._held += encoded.num_bytes - (before.num_bytes if before else 0)
        self._cache[number] = encoded
        most = sys.maxsize if self._ahead else CACHE_BYTES
        while len(self._cache) > self.cache_size or (self._held > most and len(self._cache) > 1):
            self._held -= self._cache.popitem(last=False)[1].num_bytes
