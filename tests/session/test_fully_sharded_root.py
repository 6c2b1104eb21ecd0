"""Roles that are parts of one `fully_shard` unit, which a forward leaves gathered."""

import pytest
import torch
from torch import nn

from disback_plugin.recorded import parameters_checksum
from disback_plugin.testing.ranks import start_ranks
from tests.session.common import RECORD, attach, settings
from tests.session.fully_sharded import gathered, join, leave
from tests.toy import same


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 7), nn.SiLU(), nn.Linear(7, 4))


class Guidance(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.fake_score = network(1), network(1)

    def forward(self, x):
        return self.fake_score(x), self.teacher(x)


class Host:
    """In mixed precision: the weights are float32, the answers bfloat16."""

    def __init__(self):
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
        self.guidance = fully_shard(Guidance(), mp_policy=policy)
        self.student = fully_shard(network(2), mp_policy=policy)
        parts = {"teacher": self.guidance.teacher, "fake_score": self.guidance.fake_score}
        self.roles = {**parts, "student": self.student}
        self.x = torch.ones(2, 4)
        self.optimizer = torch.optim.SGD(parts["fake_score"].parameters(), lr=0.1)

    def train_fake_score(self):
        with torch.no_grad():
            x = self.student(self.x)
        self.guidance(x)[0].float().square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def answer(self):
        with torch.no_grad():
            return self.guidance(self.x)[1]


def run(number, folder):
    join(number, folder)
    host = Host()
    disback, nodes = attach(host, settings(folder)), {}
    nodes[0] = gathered(host.guidance.teacher)
    checksum = parameters_checksum(host.student)
    for step in range(15):
        disback.begin_step(step)
        node, plain = disback.installed_node, network(0)
        if step < RECORD.num_steps:
            host.train_fake_score()
        plain.load_state_dict(nodes[node])
        with torch.no_grad():
            expected = plain.to(torch.bfloat16)(host.x.to(torch.bfloat16))
        assert torch.equal(host.answer(), expected), (step, node)
        assert not any(hasattr(value, "full_tensor") for value in host.guidance.parameters())
        if step == 3:
            host.student.reshard()  # gathered when the student was first looked at
        disback.end_step(step)  # finds the weights all the same
        if step + 1 in RECORD.at:
            nodes[len(nodes)] = gathered(host.guidance.fake_score)
        assert same(gathered(host.guidance.teacher), nodes[node])
        host.answer()
    with torch.no_grad():
        host.student(host.x)
    assert parameters_checksum(host.student) == checksum  # gathered or not
    disback.close()
    assert len(nodes) == 5
    assert not any(same(nodes[index], nodes[index + 1]) for index in range(4))
    leave()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_a_forward_left_gathered_is_not_mistaken_for_the_weights(tmp_path):
    start_ranks(run, (tmp_path,))
