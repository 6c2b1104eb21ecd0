"""Work in a thread while the host trains: one piece at a time, and no error is lost."""

import atexit
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger("disback")
CheckStop = Callable[[], None]  # called often by the work; raises where it is to end


class GivenUpError(Exception):
    """The program ends before the work."""


class _Task:
    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.stop = threading.Event()

    def run(self, work: Callable[[CheckStop], object], what: str) -> None:
        try:
            work(self._check_stop)
        except GivenUpError:
            logger.warning("%s was given up: the program ends", what)
        except BaseException as error:  # raised at the next call; said now, should none come
            logger.error("%s failed: %s", what, error)
            self.error = error
        finally:
            atexit.unregister(self.give_up)

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise GivenUpError

    def join(self) -> None:
        if self.thread is not None:
            self.thread.join()

    def give_up(self) -> None:
        self.stop.set()
        self.join()


class Behind:
    """Does a piece of work behind its caller, who goes on; the next piece waits for it.

    At the end of the program, an interrupted one too, what is not done is given up.
    """

    def __init__(self) -> None:
        self._task = _Task()

    def start(self, work: Callable[[CheckStop], object], what: str) -> None:
        """Begin `work`, which is called with a `CheckStop`; raises what went wrong before."""
        self.wait()
        task = self._task = _Task()
        task.thread = threading.Thread(
            target=task.run, args=(work, what), name=f"disback: {what}", daemon=True
        )
        atexit.register(task.give_up)
        task.thread.start()

    def check(self) -> None:
        """Raise what went wrong, once."""
        error, self._task.error = self._task.error, None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Return when all is done; raises what went wrong, once."""
        self.join()
        self.check()

    def join(self) -> None:
        """Return when all is done, well or not."""
        self._task.join()


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
