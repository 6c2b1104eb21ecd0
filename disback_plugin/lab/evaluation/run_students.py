"""The students that a run kept, as images to be measured: made when asked for, never stored."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.files import read_metadata, read_tensors, sha256
from disback_plugin.lab.data import load_prompts
from disback_plugin.lab.evaluation.samples import Images
from disback_plugin.lab.problems import Conditioner, as_they_are
from disback_plugin.lab.problems.prompts import PromptEncoder
from disback_plugin.lab.results.curves import CurvePoint
from disback_plugin.lab.results.runs import Run
from disback_plugin.lab.sampling.draws import Draw, SeededDraws
from disback_plugin.lab.sampling.images import make_images
from disback_plugin.lab.sampling.plan import LabelRule, used_prompts
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.run_folder import STUDENT, STUDENTS
from disback_plugin.lab.trainer.run_format import filled_student
from disback_plugin.pretrained import load_decoder
from disback_plugin.sealed import digest
from disback_plugin.tensors import under

BATCH, KEPT_BATCHES = 50, 8
Make = Callable[[Iterable[Draw]], Iterator[tuple[Sequence[int], np.ndarray]]]


@dataclass(frozen=True)
class KeptStudent:
    """Its weights, and what they had cost; `cost.value` is not known yet."""

    file: Path
    cost: CurvePoint


def kept_students(run: Run, every: int | None) -> list[KeptStudent]:
    """Every `every`-th of those that a run kept, the last one of a complete run at the end.

    None: the last one alone. Raises RunError where there are none.
    """
    found = {} if every is None else _on_the_way(run, every)
    if run.complete and run.last is not None:
        found[run.last.step] = KeptStudent(run.folder / STUDENT, run.last)
    if not found:
        raise RunError(
            f"{run.folder} has kept no students: set checkpoint.keep_students=N before it runs, "
            "or let it end"
        )
    return [found[step] for step in sorted(found)]


def _on_the_way(run: Run, every: int) -> dict[int, KeptStudent]:
    found = {}
    for file in sorted((run.folder / STUDENTS).glob("step_*.safetensors"))[every - 1 :: every]:
        said = read_metadata(file, RunError)
        try:
            step, seconds, passes = (said[name] for name in ("step", "seconds", "passes"))
            cost = CurvePoint(int(step), float(seconds), float(passes), float("nan"))
        except (KeyError, ValueError):
            raise RunError(f"{file} does not say which step it is of: delete it") from None
        found[cost.step] = KeptStudent(file, cost)
    return found


class StudentImages:
    """Images of the students of one experiment's runs, image i from seed i.

    Drawn as `disback sample` draws them; `balanced`: label i modulo the classes. A model of latents
    draws prompt i modulo the `prompts` of that file, and its VAE decodes. Raises ConfigError where
    samples are no images, and where prompts lack or nobody takes them.
    """

    def __init__(
        self, experiment: Experiment, balanced: bool, device: torch.device, prompts: Path | None
    ) -> None:
        self.experiment, self.device = experiment, device
        self._problem = problem = experiment.problem
        self._decoder: nn.Module | None = None
        self._condition: Conditioner = as_they_are
        self._batch, self._rule = BATCH, cast(LabelRule, "balanced" if balanced else "random")
        self.said: dict[str, Any] = {"labels": self._rule} if problem.num_classes else {}
        self._num_labels = problem.num_classes
        if problem.takes_text:
            self._take_prompts(prompts)
        elif len(problem.data_shape) != 3 or problem.data_shape[0] not in (1, 3):
            raise ConfigError(
                f"{experiment.out}: samples of {problem.kind} {problem.data_shape} are no images"
            )

    def _take_prompts(self, file: Path | None) -> None:
        source = self.experiment.source
        assert source is not None
        if file is None:
            raise ConfigError(f"{self.experiment.out}: its teacher takes prompts: give --prompts")
        prompts = load_prompts(file)
        self._decoder = load_decoder(source.spec, **source.options).to(self.device)
        self._condition = PromptEncoder(prompts, source.spec, source.options)
        self._batch = min(BATCH, self.experiment.config.evaluation.batch_size)
        self._rule = "balanced"
        self._num_labels = len(prompts)
        self.said = {"prompts": used_prompts(prompts).model_dump()}

    def of(self, file: Path, num: int) -> Images:
        """`num` images of the averaged student in `file`."""
        config, shape = self.experiment.config, self._problem.data_shape
        ema = under("ema.", read_tensors(file, RunError, sealed=file.name != STUDENT)[0])
        # a LoRA is added to it; the next student starts from it too
        teacher = self.experiment.teacher
        teacher = teacher if config.lora is None else copy.deepcopy(teacher)
        student = filled_student(config, teacher, shape, ema, str(file))
        draws = SeededDraws(config.student.latent_shape(shape), self._num_labels, self._rule)
        student.eval().to(self.device)
        make: Make = partial(
            make_images,
            student,
            device=self.device,
            condition=self._condition,
            decoder=self._decoder,
        )
        made_by = [sha256(file), self._rule, self._batch, self.device.type, self.said]
        return Images(
            path=file,
            num=num,
            load=_Maker(make, draws, num, self._batch).image,
            identity=digest(made_by),
            seeds=np.arange(num),
            said=self.said or None,
        )


class _Maker:
    """Images in batches of the same seeds, whoever asks for which; the newest batches are kept."""

    def __init__(self, make: Make, draws: SeededDraws, num: int, batch: int) -> None:
        self._make, self._draws, self._num, self._batch = make, draws, num, batch
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def image(self, number: int) -> np.ndarray:
        """(3 or 1, H, W) uint8."""
        batch, row = divmod(number, self._batch)
        with self._lock:
            if batch not in self._kept:
                self._kept[batch] = self._of_batch(batch)
                while len(self._kept) > KEPT_BATCHES:
                    self._kept.popitem(last=False)
            return self._kept[batch][row].transpose(2, 0, 1)

    def _of_batch(self, batch: int) -> np.ndarray:
        seeds = range(batch * self._batch, min((batch + 1) * self._batch, self._num))
        ((_, images),) = self._make([self._draws.batch(seeds, len(seeds))])
        return images
