"""Where the teacher's pull is common: long steps at first, and a recording that waits."""

import logging
from collections.abc import Callable

from disback_plugin.adaptive import Stride
from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import is_main
from disback_plugin.real_score import Installation
from disback_plugin.recorder import Recorder
from disback_plugin.schedule import Adaptive

logger = logging.getLogger("disback")


class Midway:
    """What a session does between its first step and a recording in mid-run.

    The fake score has followed the student by then, so it has to be the teacher again, and its
    optimizer to forget: without a `reset_fake_optimizer` nothing is recorded in mid-run.
    """

    def __init__(
        self,
        config: DisBackConfig,
        installation: Installation,
        recorder: Recorder | None,
        reset_fake_optimizer: Callable[[], None] | None,
    ) -> None:
        self._config, self._installation, self._recorder = config, installation, recorder
        self._reset_fake_optimizer = reset_fake_optimizer

    def takes(self, stride: Stride) -> Stride | None:
        """`stride`, to begin where the pull is common; None where this session does not wait."""
        adaptive = isinstance(self._config.schedule, Adaptive)
        return stride if adaptive and self._config.arm == "disback" else None

    def student_lr_factor(self, stride: Stride) -> float:
        """See `Turn`."""
        schedule = self._config.schedule
        return schedule.stride if isinstance(schedule, Adaptive) and stride.on else 1.0

    def begins(self, step: int, local: int, stride: Stride) -> bool:
        """Whether recording begins at the host's `step`, the session's `local`; on every rank.

        Then the fake score is the teacher again.
        """
        if stride.over:
            return False
        assert self._recorder is not None
        was_long = stride.on
        needed = self._recorder.needed_from(local, stride)
        if was_long and not stride.on:
            _tell(f"long steps end: student_lr_factor is 1 from step {step} on")
        if not needed:
            return False
        if self._reset_fake_optimizer is None:
            _tell("a path would be recorded now if attach() had a reset_fake_optimizer")
            return False
        _tell(f"a path is recorded from step {step} on: the fake score is the teacher again")
        self._installation.reset_fake_score()
        self._reset_fake_optimizer()
        return True


def _tell(what: str) -> None:
    if is_main():
        logger.warning("%s", what)
