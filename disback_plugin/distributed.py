"""What one rank does for all; without torch.distributed there is one process."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from disback_plugin.errors import DisBackError

Result = TypeVar("Result")


def is_main() -> bool:
    """Whether this process writes and logs: rank 0, or the only one."""
    return not _active() or distributed.get_rank() == 0


def rank() -> int:
    """This process's number; 0 where there is one process only."""
    return distributed.get_rank() if _active() else 0


def on_main(work: Callable[[], Result], what: str) -> Result:
    """Run `work` on rank 0 while the others wait; all get its (small) result, or its error."""
    if not _active():
        return work()
    outcome: list[Any] = ["", None]
    failure: Exception | None = None
    if distributed.get_rank() == 0:
        try:
            outcome = ["", work()]
        except Exception as error:  # told to all ranks below, so that none waits for ever
            failure, outcome = error, [f"{what}: {error}", None]
    distributed.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    if outcome[0]:
        raise DisBackError(f"rank 0 failed while {outcome[0]}")
    return outcome[1]


def gather(value: Result) -> list[Result]:
    """Every rank's (small) value, in order of rank, on every rank."""
    if not _active():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _active() -> bool:
    return distributed.is_available() and distributed.is_initialized()
