"""A small distillation loop of our own: linear-ish networks, SGD, every role a host has."""

import copy

import torch
from torch import Tensor, nn

from disback_plugin import DisBack


def network(seed: int, width: int = 8) -> nn.Module:
    """Two linear layers and a normalisation with buffers (one of them an integer)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.SiLU(), nn.Linear(width, 4))


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Bit equality of names, dtypes and values."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name])
        for name in first
    )


def same_roles(first: "ToyHost", second: "ToyHost") -> bool:
    """Bit equality of teacher, fake score and student."""
    return all(
        same(tensors_of(role), tensors_of(second.roles[name])) for name, role in first.roles.items()
    )


class ToyHost:
    """Holds the roles and trains like a host: fake score every step, student when it may."""

    def __init__(self, seed: int = 0, teacher_dtype: torch.dtype = torch.float32) -> None:
        self.teacher = network(1).to(teacher_dtype)
        self.fake_score = network(1)
        self.student = network(2)
        for role in (self.teacher, self.fake_score, self.student):
            role.eval()
        self.fake_optimizer = torch.optim.Adam(self.fake_score.parameters(), lr=1e-3)
        self.student_optimizer = torch.optim.Adam(self.student.parameters(), lr=1e-3)
        self.seed = seed

    @property
    def roles(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in ("teacher", "fake_score", "student")}

    def load(self, other: "ToyHost") -> None:
        """Take over what a host's checkpoint holds."""
        for name, role in self.roles.items():
            role.load_state_dict(copy.deepcopy(other.roles[name].state_dict()))
        for name in ("fake_optimizer", "student_optimizer"):
            getattr(self, name).load_state_dict(copy.deepcopy(getattr(other, name).state_dict()))

    def noise(self, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + step)
        return torch.randn(16, 4, generator=generator)

    def train_step(self, step: int, update_student: bool, real: nn.Module | None = None) -> None:
        z = self.noise(step)
        real = self.teacher if real is None else real
        if update_student:
            sample = self.student(z)
            with torch.no_grad():
                dtype = next(real.parameters()).dtype
                gap = self.fake_score(sample) - real(sample.to(dtype)).float()
            self.student_optimizer.zero_grad()
            (sample * gap).sum().backward()
            self.student_optimizer.step()
        with torch.no_grad():
            sample = self.student(z)
        self.fake_optimizer.zero_grad()
        (self.fake_score(sample + 0.1 * z) - sample).square().mean().backward()
        self.fake_optimizer.step()

    def run(self, disback: DisBack | None, steps: range) -> list:
        turns = []
        for step in steps:
            turn = disback.begin_step(step) if disback else None
            if disback is None:
                self.train_step(step, True)
            else:
                with disback.real_score() as real:
                    self.train_step(step, turn.update_student, real)
                disback.end_step(step)
            turns.append(turn)
        return turns
