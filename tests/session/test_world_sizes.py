"""Both FSDPs, on two and four ranks: one path, walked alike, whoever recorded it; killed runs too.

What is compared with is the run of one process: all weights after every step, and the nodes' files.
"""

import shutil

import pytest
import torch

from disback_plugin import DegradationPath
from disback_plugin.testing.ranks import start_ranks
from tests.session.common import settings
from tests.session.fully_sharded import join, leave
from tests.session.sharded_hosts import LAYOUTS, SharedOutHost
from tests.toy import same

STEPS = range(15)  # six recorded, four nodes of two steps, the teacher
WALK = range(9)
KILLS = {"recording": (3, 5), "walking": (9, 12)}  # saved after, killed after
FOUR = 4


def steps_of(host: SharedOutHost, disback, steps: range) -> list[dict]:
    """All weights after each step."""
    seen = []
    for step in steps:
        host.run(disback, range(step, step + 1))
        seen.append(host.whole())
    return seen


def node_files(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("path/node*"))}


def agree(found: list[dict], expected: list[dict], what: object) -> None:
    assert len(found) == len(expected)
    for step, (own, due) in enumerate(zip(found, expected, strict=True)):
        assert same(own, due), (what, step)


def in_one_process(folder) -> None:
    """A run that records and walks, one that reuses the path, and the nodes themselves."""
    host = SharedOutHost()
    disback = host.attach(settings(folder))
    whole = steps_of(host, disback, STEPS)
    disback.close()
    again = SharedOutHost()
    reused = again.attach(settings(folder, record=None))
    walked = steps_of(again, reused, WALK)
    reused.close()
    path = DegradationPath.open(folder / "path")
    for step, node in ((0, 3), (2, 2), (4, 1)):
        own = {f"guidance_model.real_unet.{k}": v for k, v in path.read(node).items()}
        assert same({name: walked[step][name] for name in own}, own)
    torch.save((whole, walked), folder / "seen.pt")


def record_walk_and_kill(number: int, folder, layout: str, size: int) -> None:
    """Into folders of its own, named after the number of ranks; other sizes go on from there."""
    join(number, folder, size)
    whole, _ = torch.load(folder / "seen.pt", weights_only=False)
    own = folder / f"of-{size}"
    host = SharedOutHost(layout)
    disback = host.attach(settings(own, prefetch=size == FOUR))
    agree(steps_of(host, disback, STEPS), whole, (layout, size))
    disback.close()
    assert node_files(own) == node_files(folder)
    for name, (saved_after, killed_after) in KILLS.items():
        kill(layout, own / name, saved_after, killed_after)
    leave()


def kill(layout: str, folder, saved_after: int, killed_after: int) -> None:
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_state_dict

    host = SharedOutHost(layout)
    disback = host.attach(settings(folder))
    host.run(disback, range(saved_after))
    weights, moments = get_state_dict(host.model, host.fake_optimizer)
    checkpoint.save({"weights": weights, "moments": moments}, checkpoint_id=folder / "checkpoint")
    torch.save(disback.state_dict(), folder / "disback.pt")
    host.run(disback, range(saved_after, killed_after))
    disback.close()


def go_on(layout: str, folder, saved_after: int) -> SharedOutHost:
    """From the checkpoint to the end."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    host = SharedOutHost(layout)
    disback = host.attach(settings(folder))
    weights, moments = get_state_dict(host.model, host.fake_optimizer)
    loaded = {"weights": weights, "moments": moments}
    checkpoint.load(loaded, checkpoint_id=folder / "checkpoint")
    set_state_dict(
        host.model,
        host.fake_optimizer,
        model_state_dict=loaded["weights"],
        optim_state_dict=loaded["moments"],
    )
    disback.load_state_dict(torch.load(folder / "disback.pt", weights_only=False))
    host.run(disback, range(saved_after, len(STEPS)))
    disback.close()
    return host


def walk_and_resume(number: int, folder, layout: str, size: int, recorded_by: int) -> None:
    """Of as many ranks as recorded it, or not; prefetched and not."""
    join(number, folder / f"of-{recorded_by}", size)
    whole, walked = torch.load(folder / "seen.pt", weights_only=False)
    own = folder / f"of-{recorded_by}"
    for prefetch in (True, False):
        host = SharedOutHost(layout)
        disback = host.attach(settings(own, record=None, prefetch=prefetch))
        agree(steps_of(host, disback, WALK), walked, (layout, size, recorded_by, prefetch))
        disback.close()
    for name, (saved_after, _) in KILLS.items():
        copied = folder / f"of-{recorded_by}-on-{size}-{name}"
        if number == 0:
            shutil.copytree(own / name, copied)
        torch.distributed.barrier()
        host = go_on(layout, copied, saved_after)
        assert same(host.whole(), whole[-1]), (layout, size, recorded_by, name)
        assert node_files(copied) == node_files(folder)
    leave()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_and_four_ranks_record_walk_and_resume_one_anothers_paths(tmp_path, layout):
    in_one_process(tmp_path)
    for size in (2, FOUR):
        start_ranks(record_walk_and_kill, (tmp_path, layout, size), size)
    for size, recorded_by in ((2, 2), (FOUR, FOUR), (2, FOUR), (FOUR, 2)):
        start_ranks(walk_and_resume, (tmp_path, layout, size, recorded_by), size)
