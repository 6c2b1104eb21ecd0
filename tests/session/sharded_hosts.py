"""Hosts of DMD2's shape under both FSDPs, whole or sharded over any number of processes.

Every rank trains on the same samples, so a run is, bit for bit, that of one process.
"""

import torch
from torch import distributed, nn

from disback_plugin import DisBack
from disback_plugin.adapters.dmd2 import DMD2Host, remember_teacher
from tests.session.fully_sharded import gathered
from tests.toy import ToyHost, network

LAYOUTS = ("fsdp1", "fsdp1-hybrid", "fsdp2", "fsdp2-hybrid")
PARTS = {"teacher": "real_unet", "fake_score": "fake_unet"}


class Uneven(nn.Module):
    """Seven rows, and one: ranks hold unlike parts, and some none."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.body = network(seed, width=7)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) * self.scale


class Guidance(nn.Module):
    """Both networks are called through it, as FSDP wants of the units in it."""

    def __init__(self) -> None:
        super().__init__()
        self.real_unet = Uneven(1).eval().requires_grad_(False)
        self.fake_unet = Uneven(1).eval()

    def forward(self, part: str, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, part)(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.guidance_model: nn.Module = Guidance()
        self.feedforward_model: nn.Module = Uneven(2).eval()


class Through:
    """A part of the guidance model, as the loop calls it."""

    def __init__(self, root: nn.Module, part: str) -> None:
        self.root, self.part = root, part
        self.parameters = root.parameters

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.root(self.part, x)


class SharedOutHost(ToyHost):
    """layout: one of LAYOUTS; None: whole, in one process."""

    def __init__(self, layout: str | None = None) -> None:
        self.layout, self.seed, self.model = layout, 0, Model()
        self.remembered = DMD2Host(self.model, remember_teacher(self.model))
        if layout is not None:
            shard = _fsdp1 if layout.startswith("fsdp1") else _fsdp2
            shard(self.model, _mesh(hybrid=layout.endswith("hybrid")))
        root = self.model.guidance_model
        self.teacher, self.fake_score = (Through(root, part) for part in PARTS.values())
        self.student = self.model.feedforward_model
        self.fake_optimizer = torch.optim.Adam(self._part("fake_score").parameters(), lr=1e-3)
        # without moments: torch's `get_state_dict` would make those that are not there yet
        self.student_optimizer = torch.optim.SGD(self.student.parameters(), lr=1e-2)

    def _part(self, role: str) -> nn.Module:
        return self.model.guidance_model.get_submodule(PARTS[role])

    @property
    def roles(self) -> dict[str, nn.Module]:
        return {role: self._part(role) for role in PARTS} | {"student": self.student}

    def attach(self, config) -> DisBack:
        if self.layout is not None and self.layout.startswith("fsdp2"):
            return DisBack.attach(roles=self.roles, config=config)
        return DisBack.attach(self.remembered, adapter="dmd2-sd", config=config)

    def train_step(self, step: int, update_student: bool, real: object = None) -> None:
        super().train_step(step, update_student, self.teacher)

    def whole(self) -> dict[str, torch.Tensor]:
        """All weights, gathered on every rank."""
        return gathered(self.model)


def _mesh(hybrid: bool):
    from torch.distributed.device_mesh import init_device_mesh

    num = distributed.get_world_size()  # two are too few to repeat what is cut
    shape = (2, num // 2) if hybrid and num > 2 else (num,)
    return init_device_mesh("cpu", shape, mesh_dim_names=("repeated", "cut")[-len(shape) :])


def _fsdp1(model: Model, mesh) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    def wrap(module: nn.Module) -> nn.Module:
        strategy = ShardingStrategy.HYBRID_SHARD if mesh.ndim == 2 else ShardingStrategy.FULL_SHARD
        return FullyShardedDataParallel(
            module, device_mesh=mesh, sharding_strategy=strategy, device_id=torch.device("cpu")
        )

    guidance = model.guidance_model
    for part in PARTS.values():
        setattr(guidance, part, wrap(guidance.get_submodule(part)))
    model.guidance_model, model.feedforward_model = wrap(guidance), wrap(model.feedforward_model)


def _fsdp2(model: Model, mesh) -> None:
    from torch.distributed.fsdp import fully_shard

    guidance = model.guidance_model
    for role in (guidance.real_unet, guidance.fake_unet, model.feedforward_model):
        fully_shard(role.body[0], mesh=mesh)
        fully_shard(role, mesh=mesh)
