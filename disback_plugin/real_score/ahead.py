"""The node that is due next, made ready in a thread while the host trains: one at most."""

import weakref
from collections.abc import Callable

from disback_plugin.path.behind import CheckStop, Task
from disback_plugin.real_score.staging import StagedNode


class Ahead:
    """Makes a node ready in the background; `take` waits for it.

    Its thread is asked to end, and waited for, by `stop`, where the owner is dropped and at the end
    of the program; that takes a piece of its work. It writes no file.
    """

    def __init__(self) -> None:
        self.node: int | None = None  # that was begun
        self._task: Task[StagedNode] | None = None
        self._dropped: weakref.finalize[[], Ahead] | None = None

    def begin(self, node: int, work: Callable[[CheckStop], StagedNode]) -> None:
        """Have `work` make `node` ready, in place of any other; once."""
        if self.node == node:
            return
        self.stop()
        self.node, self._task = node, Task(work, f"disback: reading node {node}")
        self._dropped = weakref.finalize(self, self._task.give_up)

    @property
    def failed(self) -> bool:
        """Whether something went wrong so far."""
        return self._task is not None and self._task.error is not None

    def take_error(self) -> None:
        """Raise what went wrong, once."""
        if self._task is not None and self._task.error is not None:
            error = self._task.error
            self.stop()
            raise error

    def take(self, node: int) -> StagedNode | None:
        """The node, once it is ready; None where another one, or none, was begun."""
        task = self._task
        if task is None or self.node != node:
            self.stop()
            return None
        task.join()
        self.take_error()
        self.stop()
        return task.result

    def stop(self) -> None:
        """End the work and forget what it made."""
        if self._dropped is not None:
            self._dropped()
        self.node = self._task = self._dropped = None
