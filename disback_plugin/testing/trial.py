"""One run of a contract's host, noted step by step."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disback_plugin.config import Arm, DisBackConfig, RecordConfig
from disback_plugin.distributed import gather, is_main
from disback_plugin.schedule import FixedInterval
from disback_plugin.session import DisBack
from disback_plugin.testing.host import ContractHost

RECORD = RecordConfig(num_steps=6, at=(1, 2, 4, 6))
INTERVAL = 2
NUM_NODES = len(RECORD.node_steps)
NUM_STEPS = RECORD.num_steps + INTERVAL * (NUM_NODES - 1) + 2  # two steps on the teacher
MakeHost = Callable[[], ContractHost]


def node_at(step: int) -> int:
    """The node that has to answer as the real score at a step of these runs."""
    if step < RECORD.num_steps:
        return 0
    return max(NUM_NODES - 1 - (step - RECORD.num_steps) // INTERVAL, 0)


def settings(folder: Path, arm: Arm = "disback") -> DisBackConfig:
    """The settings of every run here; the path lies in `folder`."""
    schedule = FixedInterval(interval=INTERVAL)
    return DisBackConfig(path=folder / "path", arm=arm, record=RECORD, schedule=schedule)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Where a check records its paths, one folder for all ranks; gone afterwards."""
    with ExitStack() as kept:
        own = ""
        if is_main():
            own = kept.enter_context(tempfile.TemporaryDirectory(prefix="disback-contract-"))
        yield Path(gather(own)[0])
        gather(None)  # nobody needs it any more


@dataclass(frozen=True)
class Note:
    """After a step: its losses, the student and what moves with it, what both scores answer."""

    step: int
    losses: list[float]
    student: dict[str, Tensor]
    student_state: Any
    real: Tensor
    fake: Tensor


@dataclass
class Trial:
    """A host, attached or not, and its notes; `before` is its state before the first step."""

    host: ContractHost
    disback: DisBack | None
    notes: list[Note] = field(default_factory=list)

    @classmethod
    def start(cls, make_host: MakeHost, config: DisBackConfig | None) -> "Trial":
        """A new host, with DisBack attached where there are settings."""
        torch.manual_seed(0)  # of the global generator, which hosts may draw from
        host = make_host()
        return cls(host, None if config is None else host.attach(config))

    def run(self, first: int, stop: int) -> "Trial":
        """Steps first..stop-1, noted; returns itself."""
        for step in range(first, stop):
            losses = self.host.train_step(step, self.disback)
            self.notes.append(self.note(step, losses))
        return self

    def note(self, step: int, losses: list[float]) -> Note:
        """What the host is now; the global random state is left as it is."""
        random = torch.get_rng_state()
        with torch.no_grad():
            real = self.host.predict_real(self.disback).detach().clone()
            fake = self.host.predict_fake().detach().clone()
        torch.set_rng_state(random)
        state = plain(self.host.student_state())
        return Note(step, losses, student_tensors(self.host), state, real, fake)

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The host's state, and DisBack's after a round trip through JSON."""
        assert self.disback is not None
        own = copy.deepcopy(self.host.state_dict())
        return own, json.loads(json.dumps(self.disback.state_dict()))


def student_tensors(host: ContractHost) -> dict[str, Tensor]:
    """Copies of the student's parameters; its wrappers may change names, not order.

    Of one under `fully_shard` they are gathered: called on every rank.
    """
    own = host.student.named_parameters()
    return {name: whole(value.detach()).clone() for name, value in own}


def whole(value: Tensor) -> Tensor:
    """The tensor itself, or all of one that is cut up (DTensor)."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def plain(value: Any) -> Any:
    """A state dict as data that `==` compares by value, and that later steps do not change."""
    if isinstance(value, Tensor):
        return str(value.dtype), whole(value).tolist()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
