"""The node that is due next, made ready in a thread while the host trains: one at most."""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from disback_plugin.real_score.staging import StagedNode

Work = Callable[[Callable[[], None]], StagedNode]  # given what it calls often, to be stopped by


class _NotWantedError(Exception):
    """The node is not wanted any more."""


@dataclass
class _Task:
    node: int
    stop: threading.Event = field(default_factory=threading.Event)
    result: StagedNode | None = None
    error: Exception | None = None

    def run(self, work: Work) -> None:
        try:
            self.result = work(self._check_stop)
        except _NotWantedError:
            pass
        except Exception as error:  # told to the host at its next step
            self.error = error

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise _NotWantedError


@dataclass
class _Running:
    """What is left to stop when its owner is gone, and when the interpreter ends."""

    task: _Task | None = None
    thread: threading.Thread | None = None

    def end(self) -> None:
        task, thread = self.task, self.thread
        self.task = self.thread = None
        if task is not None and thread is not None:
            task.stop.set()
            thread.join()


class Ahead:
    """Makes a node ready in the background; `take` waits for it.

    Its thread is asked to end, and waited for, by `stop`, where the owner is dropped and at the end
    of the program, an interrupted one too; that takes a piece of its work. It writes no file.
    """

    def __init__(self) -> None:
        self._running = _Running()
        weakref.finalize(self, self._running.end)

    def begin(self, node: int, work: Work) -> None:
        """Have `work` make `node` ready, in place of any other; once."""
        if self._running.task is not None and self._running.task.node == node:
            return
        self.stop()
        task = _Task(node)
        thread = threading.Thread(
            target=task.run, args=(work,), name=f"disback-node-{node}", daemon=True
        )
        self._running.task, self._running.thread = task, thread
        thread.start()

    @property
    def failed(self) -> bool:
        """Whether something went wrong so far."""
        task = self._running.task
        return task is not None and task.error is not None

    def take_error(self) -> None:
        """Raise what went wrong, once."""
        task = self._running.task
        if task is not None and task.error is not None:
            self.stop()
            raise task.error

    def take(self, node: int) -> StagedNode | None:
        """The node, once it is ready; None where another one, or none, was begun."""
        task, thread = self._running.task, self._running.thread
        if task is None or thread is None or task.node != node:
            self.stop()
            return None
        thread.join()
        self.take_error()
        self.stop()
        return task.result

    def stop(self) -> None:
        """End the work and forget what it made."""
        self._running.end()
