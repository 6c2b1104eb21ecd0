"""Degradation recording (Algorithm 1): keeps nodes while the host trains the fake score.

A step at which a node is due pays for a copy of the fake score; the node is measured and written in
a thread behind the next steps, one node at a time.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from disback_plugin.config import AutoRecord, DisBackConfig
from disback_plugin.distributed import is_main, on_every, on_main
from disback_plugin.errors import PathError, SessionError
from disback_plugin.measure import Measurement, RecordingState, Start, TeacherPull
from disback_plugin.path import DegradationPath, Manifest, NodeEntry
from disback_plugin.path.encoding import PrecisionOf
from disback_plugin.path.pending import PendingNode
from disback_plugin.path.writer_lock import WriterLock
from disback_plugin.real_score import Installation
from disback_plugin.recorded import catch_up

logger = logging.getLogger("disback")
_TEACHER_MOVED = "the teacher has moved: are teacher and fake_score swapped?"


class Recorder:
    """Writes a node after each of the configured recording steps; only rank 0 touches the disk.

    The ranks agree on a node, and see it, before the next one is copied and where recording ends.

    measurement: what automatic recording decides from; without one all nodes are kept. A node
    may be left out, and `num_steps` falls to the step at which recording ends.
    """

    def __init__(
        self,
        config: DisBackConfig,
        installation: Installation,
        method: str,
        measurement: Measurement | None = None,
    ) -> None:
        assert config.record is not None
        assert config.path is not None
        self.config, self.installation, self.method = config, installation, method
        self.node_steps = config.record.node_steps
        self.auto = config.record.auto if measurement is not None else None
        self.measurement, self.state = measurement, RecordingState()
        self.num_steps = config.record.num_steps
        self._lock: WriterLock | None = None  # on rank 0, while recording
        self._keep: int | None = None  # nodes to keep of a path that a resumed run records anew
        self._writing: int | None = None  # the node that the ranks have not agreed on yet

    def first_look(self, state: RecordingState) -> Start:
        """What the student's start calls for; `state` remembers. Without `auto` always a path."""
        self.state = state
        if self.auto is None:
            if self.config.record and self.config.record.auto and is_main():
                logger.warning(
                    "automatic recording has no measure to decide from, so all %d nodes are kept: "
                    "give attach() a measure, or list the nodes with record 'at'",
                    len(self.node_steps),
                )
            return "path"
        assert self.measurement is not None
        pull = self.measurement.teacher()
        start = pull.calls_for(self.auto)
        if is_main():
            logger.warning("%s", _seen(self.auto, pull, start))
        if start == "path":
            self.measurement.tell_cost()
        state.losses = [pull.loss]
        return start

    def go_on_from(self, state: RecordingState) -> None:
        """What a checkpoint saw. A recording that was begun without a measure keeps all nodes."""
        self.state, self.auto = state, self.auto if state.losses else None

    def start(self, student_checksum: int) -> DegradationPath:
        """Create the path's folder, for the student of that checksum."""
        assert self.config.path is not None
        folder, reference = self.config.path, self.installation.reference
        recording = {**self.config.recording_settings(), "student": student_checksum}
        if self.config.host:
            recording["host"] = self.config.host

        def create() -> Manifest:
            self._lock = WriterLock(folder)
            path = DegradationPath.create(
                folder,
                reference,
                codec=self.config.codec,
                method=self.method,
                recording=recording,
                keep_teacher=self.config.keep_teacher,
            )
            return path.manifest

        with self._released_on_failure():
            manifest = on_main(create, "creating the path")
            path = DegradationPath(folder, manifest, reference)
            on_every(path.check_teacher, "comparing teachers")
            self._see(path, manifest.digest())
            path.share_teacher()
        return path

    def resume(self, path: DegradationPath, num_done: int) -> None:
        """Go on from a checkpoint that was made after `num_done` recording steps.

        Nodes recorded after it are dropped when recording really goes on, at the next step's end:
        loading an old checkpoint alone destroys nothing.
        """
        keep = self._num_kept(num_done)

        def mend() -> None:
            path.refresh()
            if len(path) < keep:
                raise SessionError(
                    f"the checkpoint was made after {keep} nodes, but {path.folder} holds "
                    f"{len(path)}: restore the folder, or start again"
                )
            path.remove_strays()
            if num_done >= self.num_steps and not path.complete:
                path.finish()

        # on rank 0 alone: a rank that looks later would see less to do, and not wait for the others
        self._write(path, mend, "mending the path")
        self._keep = keep if num_done < self.num_steps else None
        if self._keep is None:
            self.release()

    def release(self) -> None:
        """Let others write the path: recording has ended, or this session has."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def check(self) -> None:
        """Raise what went wrong with the node in the background so far; on rank 0 alone."""
        if self._lock is not None:
            with self._released_on_failure():
                self._look(self._lock.behind.check)

    def wait(self) -> None:
        """The node in the background is on disk, or what went wrong is raised; on rank 0 alone."""
        if self._lock is not None:
            with self._released_on_failure():
                self._look(self._lock.behind.wait)

    def _drop_newer(self, path: DegradationPath, keep: int) -> None:
        path.refresh()
        if len(path) > keep:
            logger.warning(
                "%s: nodes %d to %d were recorded after the checkpoint; they are recorded again",
                *(path.folder, keep + 1, len(path)),
            )
        path.truncate(keep)

    def end_step(self, path: DegradationPath, num_done: int) -> NodeEntry | PendingNode | None:
        """Keep a node if one is due after `num_done` steps; completes the path after the last."""
        entry: NodeEntry | PendingNode | None = None
        if self._keep is not None:
            keep, self._keep = self._keep, None
            what = "dropping nodes after the checkpoint"
            self._write(path, lambda: self._drop_newer(path, keep), what)
        if num_done in self.node_steps:
            self._agree(path)
            expected = self._num_kept(num_done - 1)
            if len(path) != expected:
                raise SessionError(
                    f"node {expected + 1} is due after recording step {num_done}, but the path "
                    f"holds {len(path)} nodes: steps were skipped or repeated"
                )
            if self._keeps(num_done):
                entry = self._append(path, self.installation.read_fake_score(), num_done)
        if num_done == self.num_steps:
            self._agree(path)
            expected = self._num_kept(num_done)
            if len(path) != expected:
                raise SessionError(
                    f"recording ends with {len(path)} of {expected} nodes: steps were "
                    "skipped; call begin_step and end_step at every step"
                )
            self._write(path, path.finish, "completing the path")
            self.release()
            entry = entry and path.nodes[-1]
        return entry

    def _num_kept(self, num_done: int) -> int:
        """Nodes of the first `num_done` recording steps."""
        if self.auto is not None:
            return max(len(self.state.losses) - 1, 0)
        return sum(step <= num_done for step in self.node_steps)

    def _keeps(self, num_done: int) -> bool:
        """Whether the node due now is kept; may end the recording. Without `auto` always."""
        if self.auto is None:
            return True
        assert self.measurement is not None
        loss, before = self.measurement.fake_score_loss(), self.state.losses[-1]
        last = num_done == self.num_steps
        self.state.refuse_standstill(loss, num_done, last)
        if not self.state.keep(self.auto, loss, last):
            logger.warning(
                "recording step %d: no node is kept, it would be noise: its loss on the student's "
                "samples is %.3g, that of the node before it %.3g",
                *(num_done, loss, before),
            )
            return False
        if self.state.near_enough(self.auto):
            self.num_steps = num_done
        return True

    def _append(self, path: DegradationPath, tensors: dict[str, Tensor], step: int) -> PendingNode:
        index, what = len(path) + 1, f"writing node {len(path) + 1} of {path.folder}"
        measure = _own_precision(self.installation)
        append = partial(path.append, tensors, step, measure)
        with self._released_on_failure():
            on_main(lambda: self._held(path).write_behind(append, what), what)
        self._writing = index

        def written() -> NodeEntry:
            self.wait()
            if len(path) < index:
                raise SessionError(
                    f"node {index} is being written by rank 0: other ranks see it when the next "
                    "node is due"
                )
            return path.nodes[index - 1]

        return PendingNode(index, step, written)

    def _agree(self, path: DegradationPath) -> None:
        """The node in the background is on disk, and every rank has seen it, or all raise."""
        if self._writing is not None:
            index, self._writing = self._writing, None
            self._write(path, lambda: None, f"writing node {index}")

    def _held(self, path: DegradationPath) -> WriterLock:
        self._lock = self._lock or WriterLock(path.folder)
        self._lock.check()
        return self._lock

    def _write(self, path: DegradationPath, work: Callable[[], None], what: str) -> None:
        """On rank 0, under the lock; every rank has seen it before rank 0 can write the next."""

        def write() -> str:
            self._look(self._held(path).behind.wait)
            work()
            return path.manifest.digest()

        with self._released_on_failure():
            self._see(path, on_main(write, what))

    def _see(self, path: DegradationPath, digest: str) -> None:
        on_every(lambda: catch_up(path, digest), f"reading {path.folder}")

    def _look(self, at_node: Callable[[], None]) -> None:
        """At the node in the background. Where it was refused: did the teacher train instead?

        Asked here, not behind the host's steps: meanwhile FSDP's shards may be gathered.
        """
        try:
            at_node()
        except PathError as error:
            if self.installation.overwritten():
                raise PathError(f"{error}. Meanwhile {_TEACHER_MOVED}") from None
            raise

    @contextmanager
    def _released_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.release()
            raise


def _own_precision(installation: Installation) -> PrecisionOf | None:
    """How the installation measures a node, where that is not by its tensors one by one."""
    by_tensors = type(installation).precision_of is Installation.precision_of
    return None if by_tensors else installation.precision_of


def _seen(rule: AutoRecord, pull: TeacherPull, start: Start) -> str:
    if start == "path":
        return (
            f"a path is recorded: the teacher's loss on the student's samples is {pull.loss:.3g}, "
            f"{pull.common:.0%} of its pull is common"
        )
    if start == "known":
        seen = f"knows the student's samples (loss {pull.loss:.3g}, below {rule.min_loss:.3g})"
    else:
        seen = (
            f"pulls the student's samples all alike ({pull.common:.0%} of its pull is one shift "
            f"and one scaling, at least {rule.common:.0%})"
        )
    return f"the teacher {seen}: nothing is recorded, it answers from the first step on"
