"""Where nothing is recorded at first: why not, long steps, and a recording that waits."""

import logging
from collections.abc import Callable

from disback_plugin.adaptive import AutoRecord, Start, Stride, TeacherPull
from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import is_main
from disback_plugin.errors import SessionError
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
        reset_fake_optimizer: Callable[[], None] | None,
    ) -> None:
        self._installation, self._reset_fake_optimizer = installation, reset_fake_optimizer
        self._auto = None if config.record is None else config.record.auto
        self._arm, self._schedule = config.arm, None
        if isinstance(config.schedule, Adaptive):
            self._schedule = config.schedule

    def begin(self, start: Start, pull: TeacherPull, stride: Stride) -> None:
        """At the first step, where nothing is recorded yet."""
        assert self._auto is not None
        if start == "known" or self._arm != "disback" or self._schedule is None:
            told = "nothing is recorded, it answers from the first step on"
            if start != "known" and self._schedule is None:
                told += " (the schedule adaptive would wait for a path)"
            _tell(f"{_seen(self._auto, pull, start)}: {told}")
            return
        waits = self._reset_fake_optimizer is not None
        stride.begin(pull, long=self._schedule.stride > 1, waits=waits)
        told = "it answers, and a path is recorded once it would help"
        if waits:
            self._installation.check_start()
        else:
            told = "nothing is recorded, now or later, as attach() got no reset_fake_optimizer"
        if stride.on:
            told += "; steps are long at first: multiply the student's rate by student_lr_factor"
        _tell(f"{_seen(self._auto, pull, start)}: {told}")

    def tell_path(self, pull: TeacherPull | None) -> None:
        """At the first step, where a path is recorded at once; None: nothing was measured."""
        if pull is not None:
            _tell(
                f"a path is recorded: the teacher's loss on the student's samples is "
                f"{pull.loss:.3g}, {pull.common:.0%} of its pull is common"
            )

    def student_lr_factor(self, stride: Stride) -> float:
        """See `Turn`."""
        return self._schedule.stride if self._schedule is not None and stride.on else 1.0

    def records_from(
        self, recorder: Recorder | None, step: int, local: int, stride: Stride
    ) -> bool:
        """Whether recording begins at the host's `step`, the session's `local`; on every rank."""
        if stride.over:
            return False
        assert recorder is not None
        was_long = stride.on
        needed = recorder.needed_from(local, stride)
        if was_long and not stride.on:
            _tell(f"long steps end: student_lr_factor is 1 from step {step} on")
        if stride.over and not needed and self._reset_fake_optimizer is not None:
            _tell(f"the teacher knows the student's samples at step {step}: no path is recorded")
        return needed

    def check_resume(self, stride: Stride) -> None:
        """Raise SessionError where a checkpoint waits for what this host does not give."""
        if stride.wait and self._reset_fake_optimizer is None:
            raise SessionError(
                "the checkpoint waits for a path to record: give attach() the reset_fake_optimizer "
                "it was made with"
            )

    def restart_fake_score(self, step: int) -> None:
        """Make it the teacher again, as a recording wants it."""
        assert self._reset_fake_optimizer is not None
        _tell(f"a path is recorded from step {step} on: the fake score is the teacher again")
        self._installation.reset_fake_score()
        self._reset_fake_optimizer()
        self._installation.check_start()


def _seen(rule: AutoRecord, pull: TeacherPull, start: Start) -> str:
    if start == "known":
        return (
            f"the teacher knows the student's samples (loss {pull.loss:.3g}, below "
            f"{rule.min_loss:.3g})"
        )
    return (
        f"the teacher pulls the student's samples all alike ({pull.common:.0%} of its pull is one "
        f"shift and one scaling, at least {rule.common:.0%})"
    )


def _tell(what: str) -> None:
    if is_main():
        logger.warning("%s", what)
