"""Two processes: they wait for one another, walk the same path, and stop together."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed

from disback_plugin import DisBack, DisBackConfig, RecordConfig
from disback_plugin.distributed import gather, rank
from disback_plugin.errors import DisBackError, PathError
from disback_plugin.path import DegradationPath, inspection
from disback_plugin.recorded import parameters_checksum
from disback_plugin.testing.ranks import start_ranks
from tests.toy import ToyHost, tensors_of

RECORD = RecordConfig(num_steps=6, at=(1, 2, 4, 6))


def settings(folder: Path, record: RecordConfig | None = RECORD) -> DisBackConfig:
    return DisBackConfig(
        path=folder / "path", record=record, schedule={"name": "fixed", "interval": 1}
    )


def join(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    store, limit = f"file://{folder}/store", timedelta(seconds=60)
    distributed.init_process_group(
        "gloo", init_method=store, rank=number, world_size=2, timeout=limit
    )


def resume_late(number: int, folder: str, state: dict) -> None:
    join(number, folder)
    host = ToyHost()
    disback = DisBack.attach(roles=host.roles, config=settings(Path(folder)))
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
    join(number, folder)
    if number == 1:
        refresh = DegradationPath.refresh

        def late(path: DegradationPath) -> None:
            time.sleep(0.2)  # rank 0 has trained on by now, if it does not wait
            refresh(path)

        DegradationPath.refresh = late  # type: ignore[method-assign]
    host = ToyHost()
    disback = DisBack.attach(roles=host.roles, config=settings(Path(folder)))
    host.run(disback, range(10))
    assert disback.path is not None
    assert [entry.step for entry in disback.path] == [1, 2, 4, 6]
    distributed.barrier()
    distributed.destroy_process_group()


def torn(*_: object) -> None:
    raise PathError("torn, only here")


def stop_together(number: int, folder: str, fault: str) -> None:
    """What every rank is told of a fault of rank 1 alone; each leaves it in a file."""
    join(number, folder)
    host, own = ToyHost(), Path(folder)
    if fault == "another path":
        own = own / str(number)
        teacher = tensors_of(host.teacher)
        path = DegradationPath.create(own / "path", teacher)
        for step in (1, 2):
            path.append({k: v + v.new_tensor(step + number) for k, v in teacher.items()}, step)
        path.finish()
    disback = DisBack.attach(
        roles=host.roles, config=settings(own, record=None if fault == "another path" else RECORD)
    )
    try:
        for step in range(10):
            if number == 1 and step == 5:
                if fault == "its student moves":
                    next(host.student.parameters()).data += 1
                if fault == "it dies":
                    os._exit(0)
            if number == 1 and step == 6 and fault == "a node is torn":
                inspection.open_node = torn  # type: ignore[assignment]
            host.run(disback, range(step, step + 1))
    except DisBackError as error:
        (Path(folder) / f"told.{number}").write_text(str(error))


FAULTS = {
    "another path": ("rank 1 differs from rank 0 while opening", "rank 1 differs from rank 0"),
    "its student moves": ("rank 1 failed while checking the student", "the student changed"),
    "it dies": ("rank 1 no longer answers", None),
    "a node is torn": ("rank 1 failed while reading node 3", "only here"),
}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_rank_stops_all_and_names_it(tmp_path: Path, fault: str) -> None:
    start_ranks(stop_together, (str(tmp_path), fault))
    for number, message in enumerate(FAULTS[fault]):
        file = tmp_path / f"told.{number}"
        assert file.exists() == (message is not None)
        assert message is None or message in file.read_text()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rank_that_sees_a_node_late_is_waited_for(tmp_path: Path) -> None:
    start_ranks(see_late, (str(tmp_path),))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rank_that_resumes_later_than_the_other_still_meets_it(tmp_path: Path) -> None:
    host = ToyHost()
    disback = DisBack.attach(roles=host.roles, config=settings(tmp_path))
    host.run(disback, range(3))
    state = disback.state_dict()
    host.run(disback, range(3, 5))  # node 3, after the checkpoint; then killed
    disback.close()  # the killed process holds no lock
    start_ranks(resume_late, (str(tmp_path), state))
