"""What the author of an adapter writes for the checks: a tiny host, trained like the real one."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from disback_plugin.config import DisBackConfig
from disback_plugin.session import DisBack


class ContractError(AssertionError):
    """An adapter, or its host's loop, breaks the contract: which check, what was seen."""


class ContractHost(ABC):
    """A tiny host on the CPU, seeded: two of them train alike, bit for bit.

    Where torch.distributed is initialised, it wraps its networks as the real host does (DDP) and
    draws other data on each rank.
    """

    @abstractmethod
    def attach(self, config: DisBackConfig) -> DisBack:
        """`DisBack.attach(..., adapter="your-name", config=config)`, as your integration does."""

    @abstractmethod
    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        """One step of the host's loop, with the plugin's calls unless `disback` is None.

        Returns the step's losses.
        """

    @property
    @abstractmethod
    def student(self) -> nn.Module:
        """The network that is distilled."""

    @abstractmethod
    def student_state(self) -> dict[str, Any]:
        """State dicts of what moves with the student: its optimizer, schedule, average."""

    @abstractmethod
    def predict_real(self, disback: DisBack | None) -> Tensor:
        """What the loop gets from the real score now, on a fixed input."""

    @abstractmethod
    def predict_fake(self) -> Tensor:
        """What the fake score answers to the same input."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The host's own checkpoint: networks, optimizers, random state; nothing of DisBack."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; called on a new host, after `attach`."""
