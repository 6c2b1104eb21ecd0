"""Under `fully_shard` a run is what it is in one process: nodes, switches, resume, bit for bit."""

import pytest
import torch

from disback_plugin import DisBack
from disback_plugin.recorded import parameters_checksum
from disback_plugin.testing.ranks import start_ranks
from tests.session.common import attach, settings
from tests.session.fully_sharded import UnevenHost, gathered, join, leave
from tests.toy import same

STEPS = range(15)  # six recorded, four nodes of two steps, the teacher


def walk(host: UnevenHost, disback: DisBack, steps: range = STEPS) -> list[dict]:
    """The whole teacher at each step."""
    seen = []
    for step in steps:
        host.run(disback, range(step, step + 1))
        seen.append(gathered(host.teacher))
    return seen


def ends(host: UnevenHost) -> list[dict]:
    return [gathered(role) for role in host.roles.values()]


def node_files(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("path/node*"))}


def in_one_process(folder, dtype: torch.dtype) -> None:
    """A recorded and walked run, and what is to be seen of it."""
    host = UnevenHost(dtype)
    disback = attach(host, settings(folder))
    checksum = parameters_checksum(host.student)
    seen = walk(host, disback)
    disback.close()
    assert not any(same(seen[step], seen[step + 2]) for step in (5, 7, 9, 11))
    torch.save((seen, ends(host), checksum), folder / "seen.pt")


def run_all(number: int, folder, dtype: torch.dtype) -> None:
    join(number, folder)
    seen, ended, checksum = torch.load(folder / "seen.pt", weights_only=False)
    for layout, prefetch in (("cut", True), ("cut", False), ("repeated", True)):
        host = UnevenHost(dtype, layout)
        assert parameters_checksum(host.student) == checksum
        own = folder / f"{layout}-{prefetch}"
        disback = attach(host, settings(own, prefetch=prefetch))
        assert (disback.installation.read_fake_score() == {}) == bool(number)
        found = walk(host, disback)
        disback.close()
        for step in STEPS:
            assert same(found[step], seen[step]), (layout, prefetch, step)
        assert all(map(same, ends(host), ended)), (layout, prefetch)
        assert node_files(own) == node_files(folder)
    leave()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_processes_record_and_walk_the_bits_of_one(tmp_path, dtype):
    in_one_process(tmp_path, dtype)
    start_ranks(run_all, (tmp_path, dtype))
