"""Roles behind wrappers are unwrapped; what is more than the other role is told what to give."""

import pytest
import torch
from torch import nn

from disback_plugin.errors import InstallError
from tests.session.test_unusual_tensors import Net, attach, run


class Engine(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


DeepSpeedEngine = type("DeepSpeedEngine", (Engine,), {})


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        lambda net: torch.compile(nn.DataParallel(torch.compile(net))),
        DeepSpeedEngine,
    ],
)
def test_wrapped_roles_are_unwrapped(tmp_path, wrap):
    teacher, fake_score = Net(), Net()
    disback = attach(tmp_path, wrap(teacher), wrap(fake_score))
    assert disback.installation.teacher is teacher
    assert disback.installation.fake_score is fake_score


def test_a_role_compiled_in_place_keeps_its_names(tmp_path):
    teacher, fake_score = Net(), Net()
    teacher.compile()
    disback = attach(tmp_path, teacher, fake_score, installation="separate")
    assert run(disback, fake_score, range(3))[-1].node == 1


class WithHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = Net(), nn.Linear(4, 1)


class OwnHead(Net):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 1)


@pytest.mark.parametrize(
    ("teacher", "fake_score", "message"),
    [
        (Net, WithHead, "Give the part with the same architecture, its 'body', as the fake_score"),
        (WithHead, Net, "Give the part with the same architecture, its 'body', as the teacher"),
        (Net, OwnHead, r"unexpected \['head.bias'.*A head is no part of a node: give the part"),
    ],
)
def test_a_head_or_wrapper_of_one_role_alone_is_told_what_part_to_give(
    tmp_path, teacher, fake_score, message
):
    with pytest.raises(InstallError, match=message):
        attach(tmp_path, teacher(), fake_score())
