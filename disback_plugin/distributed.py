"""What one rank does for all, or all do together; without torch.distributed there is one process.

An error of one rank is told to all, with its number. A rank that has died, or raised elsewhere, is
missed by the others at their next call here: at once where its connection closes, else after the
timeout that the host gave `init_process_group` (torch's own is 10 minutes for NCCL, else 30).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import distributed

from disback_plugin.errors import DisBackError

Result = TypeVar("Result")
ROLL_CALL = 5.0  # seconds that a rank has to answer once something went wrong


def is_main() -> bool:
    """Whether this process writes and logs: rank 0, or the only one."""
    return not _active() or distributed.get_rank() == 0


def rank() -> int:
    """This process's number; 0 where there is one process only."""
    return distributed.get_rank() if _active() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _active() else 1


def is_alone() -> bool:
    """Whether this is the only process."""
    return world_size() == 1


def on_main(work: Callable[[], Result], what: str) -> Result:
    """Run `work` on rank 0 while the others wait; all get its (small) result, or its error."""
    if not _active():
        return work()
    outcome: list[Any] = [None]
    failure: Exception | None = None
    if distributed.get_rank() == 0:
        try:
            outcome = [("", work())]
        except Exception as error:  # told to all ranks below, so that none waits for ever
            failure, outcome = error, [(_said(error), None)]
    with _missing_ranks_named(what):
        distributed.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    said, result = outcome[0]
    if said:
        raise DisBackError(f"rank 0 failed while {what}: {said}")
    return result


def on_every(work: Callable[[], Result], what: str) -> list[Result]:
    """Run `work` on every rank; all get all (small) results, or the error of the first to fail."""
    if not _active():
        return [work()]
    failure: Exception | None = None
    outcome: Any
    try:
        outcome = ("", work())
    except Exception as error:
        failure, outcome = error, (_said(error), None)
    outcomes: list[Any] = gather(outcome, what)
    if failure is not None:
        raise failure
    for number, (said, _) in enumerate(outcomes):
        if said:
            raise DisBackError(f"rank {number} failed while {what}: {said}")
    return [result for _, result in outcomes]


def same_on_every(work: Callable[[], Result], what: str) -> Result:
    """As `on_every`; DisBackError on every rank where their results are not all the same."""
    results = on_every(work, what)
    other = next((number for number, found in enumerate(results) if found != results[0]), None)
    if other is not None:
        raise DisBackError(
            f"rank {other} differs from rank 0 while {what} ({results[other]}, {results[0]}): all "
            "ranks must see the same files and take the same steps"
        )
    return results[0]


def gather(value: Result, what: str = "comparing notes") -> list[Result]:
    """Every rank's (small) value, in order of rank, on every rank."""
    if not _active():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    with _missing_ranks_named(what):
        distributed.all_gather_object(values, value)
    return values


def _active() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, DisBackError) else f"{type(error).__name__}: {error}"


@contextmanager
def _missing_ranks_named(what: str) -> Iterator[None]:
    """Within, torch's error about a rank that is gone becomes ours, with that rank's number."""
    try:
        yield
    except RuntimeError as error:  # of torch.distributed, all of them
        absent = _absent()
        who = f"rank {absent[0]} no longer answers" if absent else "another rank no longer answers"
        raise DisBackError(
            f"rank {rank()} cannot go on ({what}): {who}: it has died or raised an error, see its "
            "own output"
        ) from error


def _absent() -> list[int]:
    """The ranks that do not come here too, within ROLL_CALL seconds; empty if that is unknown."""
    end = time.monotonic() + ROLL_CALL
    absent = list(range(distributed.get_world_size()))
    try:
        store = distributed.distributed_c10d._get_default_store()
        store.set(_present(rank()), "")
        while absent and time.monotonic() < end:
            absent = [number for number in absent if not store.check([_present(number)])]
            time.sleep(0.1)
    except (RuntimeError, AttributeError):  # the store is gone too, with the rank that held it
        return []
    return absent


def _present(number: int) -> str:
    return f"disback/present/{number}"
