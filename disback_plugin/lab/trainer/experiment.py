"""An experiment: settings, folder, teacher and problem, made once a process and handed down."""

import os
from functools import cached_property
from pathlib import Path

from disback_plugin.diffusion import Denoiser
from disback_plugin.errors import RunError
from disback_plugin.files import read_tensors
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.problems.base import TeacherSource
from disback_plugin.lab.results.run_file import REFERENCE, check_teacher
from disback_plugin.lab.trainer.augment import check_augment
from disback_plugin.lab.trainer.shared_roles import check_shared
from disback_plugin.lab.trainer.teacher_files import load_again, load_source
from disback_plugin.tensors import load_weights

TEACHER = "teacher"
WEIGHTS = "teacher.safetensors"


class Experiment:
    """What all runs in `out` share. Each part is read or made when first asked for, and kept."""

    def __init__(self, config: ExperimentConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.teacher_folder = out / TEACHER

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher is finished: trained or found, and sampled from."""
        return os.path.lexists(self.teacher_folder / REFERENCE)

    @cached_property
    def problem(self) -> Problem:
        """What is to be learned; ConfigError where teacher and data do not fit each other."""
        return self.config.problem.load(self.source)

    @cached_property
    def teacher(self) -> Denoiser:
        """The teacher, frozen, in eval mode, on the CPU; one that is trained must be finished.

        Copy it to move, train or write into it: the next run starts from it too. Raises
        CheckpointError, and RunError where the file holds another teacher than at the start.
        """
        if self._checkpoint is not None:
            teacher, _ = self._checkpoint
        else:
            own, given = self.teacher_folder / WEIGHTS, self.config.teacher.file
            file = own if given is None or self.has_teacher else given
            if self.has_teacher:
                check_teacher(self.teacher_folder)
            teacher = self.config.teacher.make(self.problem)
            load_weights(teacher, read_tensors(file, RunError)[0], str(file))
        return teacher.requires_grad_(False).eval()

    @property
    def source(self) -> TeacherSource | None:
        """Where a teacher that is a checkpoint comes from; None for others."""
        return None if self._checkpoint is None else self._checkpoint[1]

    @cached_property
    def _checkpoint(self) -> tuple[Denoiser, TeacherSource] | None:
        """Gigabytes to read and to hash: this is why there is one Experiment a process."""
        teacher = self.config.teacher
        if teacher.checkpoint is None:
            return None
        if not self.has_teacher:
            return load_source(teacher)
        check_teacher(self.teacher_folder)
        return load_again(teacher, self.teacher_folder)

    def check(self) -> None:
        """Do teacher, problem and student fit each other? ConfigError, CheckpointError, RunError.

        Seconds before anything is written, against a teacher trained for hours.
        """
        config, problem = self.config, self.problem
        teacher = self.teacher if config.teacher.training is None else config.teacher.make(problem)
        if config.lora is not None:
            check_shared(config, teacher)
        else:
            config.student.make(teacher, problem.data_shape, seed=0)
        if config.distill.augment is not None:
            check_augment(teacher)
