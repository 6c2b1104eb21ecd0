"""Work in a thread while the host trains: it ends with the program, and no error is lost."""

import atexit
import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

logger = logging.getLogger("disback")
CheckStop = Callable[[], None]  # called often by the work; raises where it is to end
Result = TypeVar("Result")


class GivenUpError(Exception):
    """The work is not wanted any more."""


class Task(Generic[Result]):
    """A piece of work in a thread of its own, begun at once.

    It is given up where it is asked to be, and at the end of the program, an interrupted one too.
    """

    def __init__(self, work: Callable[[CheckStop], Result], name: str) -> None:
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        atexit.register(self.give_up)
        self._thread.start()

    def join(self) -> None:
        """Return when it is done, well or not; its own thread does not wait for itself."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    def give_up(self) -> None:
        """Have it end at its next look, and return when it has."""
        self._stop.set()
        self.join()

    def _run(self, work: Callable[[CheckStop], Result]) -> None:
        try:
            self.result = work(self._check_stop)
        except GivenUpError:
            pass
        except BaseException as error:  # for who asks for the result
            self.error = error
        finally:
            atexit.unregister(self.give_up)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise GivenUpError


class Behind:
    """Does a piece of work behind its caller, who goes on; the next piece waits for it."""

    def __init__(self) -> None:
        self._task: Task[object] | None = None

    def start(self, work: Callable[[CheckStop], object], what: str) -> None:
        """Begin `work`, which is called with a `CheckStop`; raises what went wrong before."""
        self.wait()
        self._task = Task(partial(_told, work, what), f"disback: {what}")

    def check(self) -> None:
        """Raise what went wrong, once."""
        if self._task is not None and self._task.error is not None:
            error, self._task.error = self._task.error, None
            raise error

    def wait(self) -> None:
        """Return when all is done; raises what went wrong, once."""
        self.join()
        self.check()

    def join(self) -> None:
        """Return when all is done, well or not."""
        if self._task is not None:
            self._task.join()


def _told(work: Callable[[CheckStop], object], what: str, check_stop: CheckStop) -> None:
    """What ends the work is said when it does, should nobody ask any more."""
    try:
        work(check_stop)
    except GivenUpError:
        logger.warning("%s was given up: the program ends", what)
        raise
    except BaseException as error:
        logger.error("%s failed: %s", what, error)
        raise


class Helper:
    """A thread that does, in order, what it is given; `wait` raises what went wrong."""

    def __init__(self, name: str) -> None:
        self._given: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._num_open = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def give(self, work: Callable[[], object]) -> None:
        """Have it done."""
        self._num_open += 1
        self._given.put(work)

    def wait(self) -> None:
        """Return when all that was given is done."""
        while self._num_open:
            self._num_open -= 1
            error = self._done.get()
            if error is not None:
                raise error

    def end(self) -> None:
        """Return when the thread is gone."""
        self._given.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._given.get()) is not None:
            try:
                work()
            except BaseException as error:
                self._done.put(error)
            else:
                self._done.put(None)
