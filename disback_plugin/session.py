"""`DisBack`: what a host's loop talks to. Stages: record, backtrack, teacher."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from disback_plugin.adapter import Roles, get_adapter, refuse_shared_weights
from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import is_main, on_every, on_main
from disback_plugin.errors import ConfigError, SessionError
from disback_plugin.measure import Measure, Measurement, check_functions
from disback_plugin.path import DegradationPath, NodeEntry
from disback_plugin.path.inspection import holds_path
from disback_plugin.path.pending import PendingNode
from disback_plugin.progress import Progress, Steps, Turn, whole, with_saved_rounding
from disback_plugin.real_score import FixedTeacher, Installation, PathNodeScheduler, RealScore
from disback_plugin.real_score.weights import refuse_foreign
from disback_plugin.recorded import (
    HeldStudent,
    is_too_short,
    open_recorded,
    parameters_checksum,
    recorded_so_far,
    reopen,
    warn_if_resumed,
)
from disback_plugin.recorder import Recorder

logger = logging.getLogger("disback")


class DisBack:
    """One training run with DisBack, made by `attach`.

    The host calls `begin_step(step)` before and `end_step(step)` after each of its steps, on every
    rank, and keeps `state_dict()` in its checkpoints. The global random state is never touched.
    Attach before the host loads a checkpoint: the teacher is remembered as it is then.
    """

    def __init__(
        self,
        roles: Roles,
        installation: Installation,
        config: DisBackConfig,
        method: str,
        measure: Measure | None = None,
    ) -> None:
        self.config, self.installation = config, installation
        self._student, self._held_student = roles.student, HeldStudent(roles.student)
        self._measurement = (
            None if measure is None else Measurement(measure, installation, roles.fake_score)
        )
        self._strategy: RealScore = FixedTeacher(installation)
        self._recorder = (
            Recorder(config, installation, method, self._measurement) if config.record else None
        )
        self._path: DegradationPath | None = None
        self._progress, self._steps = Progress(), Steps()
        # the host's, on every rank, once it is decided that there is a path to record or to walk
        self.before_path: Callable[[], None] = lambda: None

    @classmethod
    def attach(
        cls,
        host: Any = None,
        *,
        config: DisBackConfig,
        adapter: str = "generic",
        roles: Mapping[str, nn.Module] | None = None,
        measure: Measure | None = None,
        reset_fake_optimizer: None = None,
    ) -> "DisBack":
        """Attach to `host` through a registered adapter, or to `roles` of your own loop.

        measure(network): what automatic recording and the schedule `adaptive` decide from: the
        residuals (D(x_t) - x0) / sigma of the network on the student's samples x0, and x0, two
        tensors (B, *data), of the same draws at every call (see measure.py); called on every rank,
        all ranks count. None: the adapter's own; where it has none their caps hold.
        Raises AdapterError (unknown, a role misses), InstallError (networks differ), ConfigError.
        """
        check_functions(measure, reset_fake_optimizer)
        if (host is None) == (roles is None):
            raise ConfigError("give either a host for the adapter, or roles=dict(teacher=..., ...)")
        chosen, given = get_adapter(adapter)(), host if roles is None else roles
        found = chosen.roles(given)
        refuse_shared_weights(found)
        if config.arm != "fixed":
            refuse_foreign(found.student, "student", compared=True)
        installation = chosen.installation(found, config)
        return cls(found, installation, config, chosen.name, measure or chosen.measure(given))

    # -- the host's step ------------------------------------------------------------------------
    def begin_step(self, step: int) -> Turn:
        """Install a node if one is due. Idempotent: asking twice for a step changes nothing."""
        step = whole(step)
        if not self.active:
            return Turn(step, "teacher", 0, update_student=True)
        self._raise_failure()
        if (progress := self._progress).first_step is None:
            self._start(step)
        local = progress.local(step)
        self._steps.begin(step, progress)
        if progress.no_path:
            return Turn(step, "teacher", 0, update_student=True)
        if local < progress.num_record_steps:
            return Turn(step, "record", 0, update_student=False)
        if self._path is None or not self._path.complete:
            raise SessionError(
                f"step {step} begins backtracking, but recording has not ended: call end_step "
                "after every step, and number steps without gaps"
            )
        switch = self._strategy.begin_step(local - progress.num_record_steps)
        node = self._strategy.installed
        assert node is not None
        return Turn(step, "backtrack" if node else "teacher", node, True, switch)

    def end_step(
        self, step: int, metrics: dict[str, Any] | None = None
    ) -> NodeEntry | PendingNode | None:
        """Keep a node if one is due; `metrics`, the host's log entry, gains `disback/...` numbers.

        A node is copied here, and written in the background: what goes wrong there is raised by the
        next call. Returns the node, whose figures rank 0 waits for. A second call does nothing.
        """
        entry: NodeEntry | PendingNode | None = None
        step = whole(step)
        self._raise_failure()
        if self.active and step != self._progress.last_step:
            num_done = self._progress.local(step) + 1
            self._steps.end(step)
            if num_done <= self._progress.num_record_steps:
                entry = self._end_record_step(num_done)
            self._progress.last_step = step
        if metrics is not None:
            metrics.update(self.metrics(step))
        return entry

    def real_score(self) -> AbstractContextManager[nn.Module]:
        """The network that answers as the real score now: `with disback.real_score() as network:`.

        Needed for the installations `separate` and `lora`; in place, it is the host's own teacher.
        """
        return self._strategy.evaluate()

    def metrics(self, step: int) -> dict[str, float]:
        """Numbers for a host's log: stage (0 record, 1 backtrack, 2 teacher), node, distance."""
        node = self.installed_node
        stage = 0 if self._progress.recording_at(step) else 1 if node else 2
        distance = self._path.nodes[node - 1].distance if node and self._path else 0.0
        return {"disback/stage": stage, "disback/node": node, "disback/distance": distance}

    # -- state ----------------------------------------------------------------------------------
    @property
    def active(self) -> bool:
        """False for the arm `fixed`: the host runs as it would without the plugin."""
        return self.config.arm != "fixed"

    @property
    def installed_node(self) -> int:
        """The node in the real score's place; 0 is the teacher."""
        return self._strategy.installed or 0

    @property
    def num_record_steps(self) -> int:
        """Recording steps of this run, as far as decided; may fall while recording.

        0 where nothing is recorded or a path is reused. They precede the student's first update.
        """
        return self._progress.num_record_steps

    @property
    def path(self) -> DegradationPath | None:
        """The degradation path, once the first step has begun; waits for a node being written."""
        self._wait()
        return self._path

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state for the host's checkpoint; tensors stay in the path's folder.

        On rank 0 it waits for a node that is being written: what the state names is on disk.
        """
        self._wait()
        state = self._progress.dump(self.config, self.installation.reference)
        return state if self._path is None else {**state, "path": recorded_so_far(self._path)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint: between `attach` and the first `begin_step`, on every rank.

        Raises SessionError for other settings, another teacher, or a path that lacks its nodes.
        """
        if self._progress.first_step is not None:
            raise SessionError("load_state_dict comes before the first begin_step")
        self.config = config = with_saved_rounding(self.config, state)
        if config.rounding != "auto":
            self.installation.rounding = config.rounding
        self._progress = Progress.load(state, config, self.installation.reference)
        if not self.active or self._progress.first_step is None:
            return
        if self._progress.measured and self._measurement is None:
            raise SessionError("the checkpoint was made with a measure: give attach() one")
        if self._recorder:
            self._recorder.go_on_from(self._progress.recording)
        if self._progress.no_path:
            return
        student = self._progress.student_checksum
        self._path = reopen(config, self.installation, student, state.get("path"))
        if self._recorder and self._progress.num_record_steps:
            self._recorder.num_steps = self._progress.num_record_steps
            self._recorder.resume(self._path, self._progress.num_done())
        if self._progress.num_done() >= self._progress.num_record_steps:
            on_every(self._path.check_files, "looking for the nodes")
            self._backtrack()
        self._strategy.forget()

    def restore_teacher(self) -> None:
        """Bring the teacher's exact bytes back now, whatever the schedule says."""
        self.installation.install(0, self.installation.verified_teacher())
        self._strategy.forget()

    def close(self) -> None:
        """Wait for a node being written; warn where no node came, or the real score was moved."""
        try:
            self._wait()
        finally:
            if self._recorder:
                self._recorder.release()
            self._strategy.close()
            if self._measurement and not self._progress.no_path:  # which is told in one line
                self._measurement.tell_cost()
        if self.active and self._progress.first_step is not None and is_main():
            self._strategy.warn_if_overwritten()
        if self.config.arm == "disback" and is_main():
            short = self._path is not None and is_too_short(self._path)
            if not (self._progress.no_path or short):
                self._strategy.warn_at_end()

    # -- helpers --------------------------------------------------------------------------------
    def _start(self, step: int) -> None:
        folder = self.config.path
        assert folder is not None
        self._strategy.refuse_overwritten(self.installation.overwritten(), "the first step")
        if on_main(lambda: holds_path(folder), "looking for a path"):
            self.before_path()
            self._path = open_recorded(self.config, self.installation, self._student)
            warn_if_resumed(self._path, self._student, step)
            self._backtrack()
        elif self._recorder is None:
            raise ConfigError(
                f"{folder} holds no path and no recording is configured: set 'record', or give the "
                "folder of a recorded path"
            )
        else:
            self._progress.start = self._recorder.first_look(self._progress.recording)
            if not self._progress.no_path:
                self.before_path()
                self.installation.check_start()
                self._progress.student_checksum = parameters_checksum(self._student)
                self._path = self._recorder.start(self._progress.student_checksum)
                self._progress.num_record_steps = self._recorder.num_steps
        self._progress.first_step = step

    def _raise_failure(self) -> None:
        if self._recorder:
            self._recorder.check()

    def _wait(self) -> None:
        if self._recorder:
            self._recorder.wait()

    def _end_record_step(self, num_done: int) -> NodeEntry | PendingNode | None:
        assert self._recorder is not None
        assert self._path is not None
        last = num_done == self._progress.num_record_steps
        if last or num_done in self._recorder.node_steps:  # before anything is written
            checksum, folder = self._progress.student_checksum, self.config.path
            check = self._held_student.check
            on_every(lambda: check(checksum, folder), "checking the student")
        entry = self._recorder.end_step(self._path, num_done)
        self._progress.num_record_steps = self._recorder.num_steps
        if num_done == self._recorder.num_steps:
            self._backtrack()
        return entry

    def _backtrack(self) -> None:
        assert self._path is not None
        if self.config.arm != "disback":
            return
        schedule, path = self.config.schedule, self._path
        if is_too_short(path):
            logger.warning("%s has one node: the teacher answers from now on", path.folder)
        else:
            measure = self._measurement
            loss = self._progress.walked_by(measure.loss if measure else None)
            walk, prefetch = self._progress.walk, self.config.prefetch
            self._strategy = PathNodeScheduler(
                self.installation, path, schedule, walk, loss, prefetch
            )
