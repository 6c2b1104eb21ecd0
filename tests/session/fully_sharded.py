"""The toy host under `fully_shard`, in two gloo processes, with shards that are not all alike."""

from datetime import timedelta

import torch
from torch import distributed, nn

from tests.toy import ToyHost, network


class Uneven(nn.Module):
    """Seven rows, and one: ranks hold four and three, one and none. Two names are one tensor."""

    def __init__(self, seed):
        super().__init__()
        self.body = network(seed, width=7)
        self.scale = nn.Parameter(torch.ones(1))
        self.same = self.scale

    def forward(self, x):
        return self.body(x) * self.scale


class UnevenHost(ToyHost):
    """In one process as it is; `cut` before the first step where there are two."""

    def __init__(self, teacher_dtype=torch.float32, layout=None):
        super().__init__()
        self.teacher = Uneven(1).to(teacher_dtype).eval().requires_grad_(False)
        self.fake_score, self.student = Uneven(1).eval(), Uneven(2).eval()
        if layout is not None:
            self._cut(layout)
        parameters = [self.fake_score.parameters(), self.student.parameters()]
        self.fake_optimizer, self.student_optimizer = (
            torch.optim.Adam(of_role, lr=1e-3) for of_role in parameters
        )

    def _cut(self, layout):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        assert layout in ("cut", "repeated")
        shape = (2,) if layout == "cut" else (2, 1)  # the latter as HYBRID_SHARD
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("repeated", "cut")[-len(shape) :])
        for role in self.roles.values():
            fully_shard(role.body[0], mesh=mesh)
            fully_shard(role, mesh=mesh)


def join(number, folder, size=2):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store-{size}",
        rank=number,
        world_size=size,
        timeout=timedelta(seconds=60),
    )


def leave():
    distributed.barrier()
    distributed.destroy_process_group()


def gathered(module):
    """Whole copies, on every rank."""
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()
        for name, value in module.state_dict().items()
    }
