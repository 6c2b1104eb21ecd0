"""A small teacher, nodes near it, and a whole path of them in either codec."""

import pytest
import torch

from disback_plugin import DegradationPath
from tests.toy import network, tensors_of


def nodes_of(teacher, num):
    generator = torch.Generator().manual_seed(7)
    return [
        {
            name: value + 0.01 * k * torch.randn(value.shape, generator=generator)
            if value.is_floating_point()
            else value
            for name, value in teacher.items()
        }
        for k in range(1, num + 1)
    ]


@pytest.fixture
def teacher():
    return tensors_of(network(1))


@pytest.fixture
def nodes(teacher):
    return nodes_of(teacher, 3)


@pytest.fixture(params=["full", "delta", "bounded"])
def codec(request):
    return request.param


@pytest.fixture
def path(tmp_path, teacher, nodes, codec):
    path = DegradationPath.create(tmp_path / "path", teacher, codec=codec)
    for index, node in enumerate(nodes, start=1):
        path.append(node, step=10 * index)
    path.finish()
    return path
