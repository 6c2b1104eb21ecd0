"""Under `fully_shard` a run is what it is in one process: nodes, switches, resume, bit for bit."""

import copy

import pytest
import torch

from disback_plugin import DisBack
from disback_plugin.errors import InstallError
from disback_plugin.recorded import parameters_checksum
from disback_plugin.testing.ranks import start_ranks
from tests.session.common import attach, settings
from tests.session.fully_sharded import Uneven, UnevenHost, gathered, join, leave
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
    from disback_plugin.real_score.dtensor import DTensorInPlace

    seen, ended, checksum = torch.load(folder / "seen.pt", weights_only=False)
    other = "repeated" if dtype == torch.float32 else "cut"
    for layout, prefetch in (("cut", True), (other, False)):
        host = UnevenHost(dtype, layout)
        assert parameters_checksum(host.student) == checksum
        own = folder / f"{layout}-{prefetch}"
        disback = attach(host, settings(own, prefetch=prefetch))
        assert isinstance(disback.installation, DTensorInPlace)
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


def weights(host: UnevenHost) -> dict:
    """Cut up as they are."""
    return {name: role.state_dict() for name, role in host.roles.items()}


def optimizers(host: UnevenHost) -> list:
    return [host.fake_optimizer, host.student_optimizer]


def go_on(number: int, folder) -> None:
    """Killed while recording, and on the way back; weights by DCP, each rank its own moments."""
    join(number, folder)
    from torch.distributed import checkpoint

    _, ended, _ = torch.load(folder / "seen.pt", weights_only=False)
    for saved_after, killed_after in ((3, 5), (9, 12)):
        killed, own = UnevenHost(layout="cut"), folder / f"killed-{killed_after}"
        disback = attach(killed, settings(own))
        killed.run(disback, range(saved_after))
        state = disback.state_dict()
        checkpoint.save(weights(killed), checkpoint_id=own / "checkpoint")
        moments = [copy.deepcopy(each.state_dict()) for each in optimizers(killed)]
        killed.run(disback, range(saved_after, killed_after))
        disback.close()

        host = UnevenHost(layout="cut")
        disback = attach(host, settings(own))
        loaded = weights(host)
        checkpoint.load(loaded, checkpoint_id=own / "checkpoint")
        for name, role in host.roles.items():
            role.load_state_dict(loaded[name])
        for optimizer, own_moments in zip(optimizers(host), moments, strict=True):
            optimizer.load_state_dict(own_moments)
        disback.load_state_dict(state)
        host.run(disback, range(saved_after, len(STEPS)))
        assert all(map(same, ends(host), ended)), killed_after
        assert node_files(own) == node_files(folder)
    leave()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    in_one_process(tmp_path, torch.float32)
    start_ranks(go_on, (tmp_path,))


def reuse_and_record(number: int, folder) -> None:
    """The path of one process in two; another one for one process; what is refused."""
    join(number, folder)
    host = UnevenHost(layout="cut")
    disback = attach(host, settings(folder))  # its student is known as the one it was recorded for
    (seen,) = walk(host, disback, range(1))
    whole, *_ = torch.load(folder / "seen.pt", weights_only=False)
    assert same(seen, whole[6])  # the last node
    disback.close()

    other = UnevenHost(layout="cut")
    disback = attach(other, settings(folder / "of-two"))
    other.run(disback, range(6))
    disback.close()

    refused(UnevenHost(layout="cut"), folder)
    leave()


def refused(host: UnevenHost, folder) -> None:
    """What would need whole networks, or more than one range of a tensor."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    with pytest.raises(InstallError, match="installed 'in-place' only"):
        attach(host, settings(folder, installation="separate"))
    host.teacher = Uneven(1).eval()
    by_columns = {(7, 4): Shard(1)}
    fully_shard(host.teacher, shard_placement_fn=lambda value: by_columns.get((*value.shape,)))
    with pytest.raises(InstallError, match=r"'body.0.weight' is cut up as \(Shard\(dim=1\)"):
        attach(host, settings(folder))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_path_is_walked_by_any_number_of_processes(tmp_path):
    in_one_process(tmp_path, torch.float32)
    start_ranks(reuse_and_record, (tmp_path,))
    host = UnevenHost()
    (seen,) = walk(host, attach(host, settings(tmp_path / "of-two")), range(1))
    whole, *_ = torch.load(tmp_path / "seen.pt", weights_only=False)
    assert same(seen, whole[6])
