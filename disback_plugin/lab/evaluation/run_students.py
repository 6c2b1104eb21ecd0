"""The students that a run kept, as images to be measured: made when asked for, never stored."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.files import read_metadata, read_tensors, sha256
from disback_plugin.lab.evaluation.samples import Images
from disback_plugin.lab.results.curves import CurvePoint
from disback_plugin.lab.results.runs import Run
from disback_plugin.lab.sampling.draws import SeededDraws
from disback_plugin.lab.sampling.images import to_bytes
from disback_plugin.lab.sampling.plan import LabelRule
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.run_folder import STUDENT, STUDENTS
from disback_plugin.sealed import digest
from disback_plugin.tensors import load_weights

BATCH, KEPT_BATCHES = 50, 8


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


def student_images(
    experiment: Experiment, file: Path, num: int, balanced: bool, device: torch.device
) -> Images:
    """`num` images of the averaged student in `file`, image i from seed i.

    Drawn as `disback sample` draws them; `balanced`: label i modulo the classes.
    """
    problem, config = experiment.problem, experiment.config
    shape = problem.data_shape
    if len(shape) != 3 or shape[0] not in (1, 3) or problem.kind == "prompts":
        raise ConfigError(
            f"{experiment.out}: samples of {problem.kind} {shape} are no images: sample from the "
            "student first (disback sample), and evaluate what it made"
        )
    student = config.student.make(experiment.teacher, shape, seed=0)
    tensors = {
        name.removeprefix("ema."): value
        for name, value in read_tensors(file, RunError, sealed=file.name != STUDENT)[0].items()
        if name.startswith("ema.")
    }
    load_weights(student, tensors, str(file))
    rule: LabelRule = "balanced" if balanced else "random"
    draws = SeededDraws(config.student.latent_shape(shape), problem.num_classes, rule)
    maker = _Maker(student.eval().to(device), draws, num, device)
    return Images(
        path=file,
        num=num,
        load=maker.image,
        identity=digest([sha256(file), balanced, BATCH, device.type]),
        seeds=np.arange(num),
        said={"labels": rule} if problem.num_classes else None,
    )


class _Maker:
    """Images in batches of the same seeds, whoever asks for which; the newest batches are kept."""

    def __init__(
        self, student: nn.Module, draws: SeededDraws, num: int, device: torch.device
    ) -> None:
        self._student, self._draws, self._num, self._device = student, draws, num, device
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def image(self, number: int) -> np.ndarray:
        """(3 or 1, H, W) uint8."""
        batch, row = divmod(number, BATCH)
        with self._lock:
            if batch not in self._kept:
                self._kept[batch] = self._make(batch)
                while len(self._kept) > KEPT_BATCHES:
                    self._kept.popitem(last=False)
            return self._kept[batch][row]

    @torch.no_grad()
    def _make(self, batch: int) -> np.ndarray:
        seeds = range(batch * BATCH, min((batch + 1) * BATCH, self._num))
        draw = self._draws.batch(seeds, len(seeds))
        cond = None if draw.labels is None else draw.labels.to(self._device)
        images = self._student(draw.z.to(self._device), cond)
        return to_bytes(images).permute(0, 3, 1, 2).contiguous().cpu().numpy()
