"""The check `ranks`: two gloo processes walk the same path, switch at the same steps."""

import pickle
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

from disback_plugin.distributed import gather
from disback_plugin.testing.host import ContractError
from disback_plugin.testing.trial import (
    NUM_STEPS,
    RECORD,
    MakeHost,
    Trial,
    node_at,
    scratch_folder,
    settings,
)

NUM_PROCESSES = 2


def check_ranks(make_host: MakeHost) -> None:
    """In two processes: equal students, the same node everywhere, the teacher back everywhere.

    Called in a process group, in the processes of that.
    """
    if distributed.is_available() and distributed.is_initialized():
        with scratch_folder() as folder:
            if message := compare(make_host, folder):
                raise ContractError(message)
        return
    try:
        pickle.dumps(make_host)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ContractError(
            f"make_host cannot be imported in other processes ({error}): define it at the top "
            "level of a module, or skip this check"
        ) from None
    with scratch_folder() as folder:
        start_ranks(_run, (make_host, folder))
        failed = sorted(folder.glob("failure.*"), key=lambda file: file.stat().st_mtime_ns)
        if failed:  # the first one; the other rank may only have missed it
            raise ContractError(failed[0].read_text())


def start_ranks(
    run: Callable[..., None], args: tuple[Any, ...], num_processes: int = NUM_PROCESSES
) -> None:
    """`run(rank, *args)` in processes that share no memory with this one; returns at their end.

    Where there is a fork server, it imports torch once for all checks of this process.
    """
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])  # Adam imports the latter
    multiprocessing.start_processes(
        run, args, num_processes, start_method="forkserver" if has_server else "spawn"
    )


def _run(rank: int, make_host: MakeHost, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=NUM_PROCESSES,
        timeout=timedelta(seconds=60),
    )
    try:
        message = compare(make_host, folder)
    except Exception:  # of the author's code: told by the parent
        message = traceback.format_exc()
    if message:
        (folder / f"failure.{rank}").write_text(f"rank {rank}: {message}")
    distributed.destroy_process_group()


def compare(make_host: MakeHost, folder: Path) -> str:
    """What is wrong, seen from this rank; empty where nothing is."""
    trial = Trial.start(make_host, settings(folder))
    teacher = trial.note(-1, []).real
    recorded = {0: teacher}
    losses_differ = False
    for step in range(NUM_STEPS):
        note = trial.run(step, step + 1).notes[-1]
        sums = [float(value.double().sum()) for value in note.student.values()]
        if any(other != sums for other in gather(sums)):
            return f"the ranks' students differ at step {step}: the update is not synchronised"
        if any(not torch.equal(other, note.fake) for other in gather(note.fake)):
            return f"the ranks' fake scores differ at step {step}: the update is not synchronised"
        losses_differ |= any(other != note.losses for other in gather(note.losses))
        if step + 1 in RECORD.node_steps:
            recorded[RECORD.node_steps.index(step + 1) + 1] = note.fake
        if not torch.equal(note.real, recorded[node_at(step)]):
            return f"at step {step} the real score does not answer as node {node_at(step)}"
    if not losses_differ:
        return "all ranks have the same losses: give each data of its own, else nothing is checked"
    return ""
