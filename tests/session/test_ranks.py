"""Two processes: what one of them does to the path, the other waits for."""

import time
from pathlib import Path

import pytest
import torch
from torch import distributed

from disback_plugin import DisBack
from disback_plugin.distributed import gather, rank
from disback_plugin.path import DegradationPath
from disback_plugin.recorded import parameters_checksum
from disback_plugin.testing.ranks import start_ranks
from tests.session.common import attach, settings
from tests.toy import ToyHost

QUICK = {"schedule": {"name": "fixed", "interval": 1}}


def start(number: int, folder: str) -> tuple[ToyHost, DisBack]:
    """One of the two processes, its host and its session."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=number, world_size=2
    )
    host = ToyHost()
    return host, attach(host, settings(Path(folder), **QUICK))


def resume_late(number: int, folder: str, state: dict) -> None:
    host, disback = start(number, folder)
    if number == 1:
        time.sleep(1.0)  # rank 0 has dropped the late nodes by now, and waits
    disback.load_state_dict(state)
    host.run(disback, range(3, 10))
    path = disback.path
    assert path is not None
    assert [entry.step for entry in path] == [1, 2, 4, 6]
    assert gather(rank()) == [0, 1]
    checksum = parameters_checksum(host.student)
    assert gather(checksum) == [checksum, checksum]
    distributed.barrier()  # no rank leaves while the other still talks to it
    distributed.destroy_process_group()


def see_late(number: int, folder: str) -> None:
    host, disback = start(number, folder)
    if number == 1:
        refresh = DegradationPath.refresh

        def late(path: DegradationPath) -> None:
            time.sleep(0.2)  # rank 0 has trained on by now, if it does not wait
            refresh(path)

        DegradationPath.refresh = late  # type: ignore[method-assign]
    host.run(disback, range(10))
    assert disback.path is not None
    assert [entry.step for entry in disback.path] == [1, 2, 4, 6]
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rank_that_sees_a_node_late_is_waited_for(tmp_path: Path) -> None:
    start_ranks(see_late, (str(tmp_path),))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rank_that_resumes_later_than_the_other_still_meets_it(tmp_path: Path) -> None:
    host = ToyHost()
    disback = attach(host, settings(tmp_path, **QUICK))
    host.run(disback, range(3))
    state = disback.state_dict()
    host.run(disback, range(3, 5))  # node 3, after the checkpoint; then killed
    start_ranks(resume_late, (str(tmp_path), state))
