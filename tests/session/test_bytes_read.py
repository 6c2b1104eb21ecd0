"""A rank reads its own part of a node, at a switch and where the fake score starts from one."""

import pytest
import torch
from torch import nn

from disback_plugin import DegradationPath
from disback_plugin.path.node_file import NodeFile
from disback_plugin.testing.ranks import start_ranks
from tests.session.common import attach, settings
from tests.session.fully_sharded import gathered, join, leave
from tests.toy import same

NUM_RANKS, WIDTH = 4, 2000  # 16 MB a layer


def layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(WIDTH, WIDTH, bias=False)


def walk(number: int, folder) -> None:
    join(number, folder, NUM_RANKS)
    from torch.distributed.fsdp import fully_shard

    opened: list[NodeFile] = []
    make = NodeFile.__init__

    def noted(file: NodeFile, *args) -> None:
        make(file, *args)
        if file.file.name.startswith("node"):
            opened.append(file)

    NodeFile.__init__ = noted  # type: ignore[method-assign]
    roles = {name: layer() for name in ("teacher", "fake_score", "student")}
    for role in roles.values():
        fully_shard(role)
    teacher = gathered(roles["teacher"])["weight"]

    class Host:
        pass

    Host.roles = roles  # type: ignore[attr-defined]
    disback = attach(Host, settings(folder, record=None, prefetch=False))
    disback.begin_step(0)
    assert torch.equal(gathered(roles["fake_score"])["weight"], teacher + 2)
    assert torch.equal(gathered(roles["teacher"])["weight"], teacher + 1)
    size = (folder / "path" / "node_0001.safetensors").stat().st_size
    assert [file.file.name[:9] for file in opened] == ["node_0002", "node_0001"]
    for file in opened:
        assert size / NUM_RANKS <= file.verified <= 1.05 * size / NUM_RANKS, file.file
    leave()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(120)
def test_four_ranks_read_one_node_in_all(tmp_path):
    teacher = layer().state_dict()
    path = DegradationPath.create(tmp_path / "path", teacher)
    for step in (1, 2):
        path.append({name: value + step for name, value in teacher.items()}, step)
    path.finish()
    start_ranks(walk, (tmp_path,), NUM_RANKS)
    assert same(path.read(1), {"weight": teacher["weight"] + 1})
