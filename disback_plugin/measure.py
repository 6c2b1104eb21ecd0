"""What automatic recording and the schedule `adaptive` decide from, the same on all ranks."""

import logging

from torch import Tensor, nn

from disback_plugin.adaptive import Measure, PullSums, TeacherPull, loss_of
from disback_plugin.distributed import gather, is_main, on_main
from disback_plugin.errors import SessionError
from disback_plugin.real_score import Installation

logger = logging.getLogger("disback")
FEW = 16  # samples


class Judge:
    """A host's measure, made into losses and pulls over the whole batch; called on every rank."""

    def __init__(self, measure: Measure, installation: Installation, fake_score: nn.Module) -> None:
        self._measure, self._installation, self._fake_score = measure, installation, fake_score

    def loss(self, network: nn.Module) -> float:
        """Of a node that is installed as the real score."""
        residual, _ = self._ask(network)
        ranks = gather((len(residual), loss_of(residual)))
        return sum(num * loss for num, loss in ranks) / sum(num for num, _ in ranks)

    def fake_score_loss(self) -> float:
        """Of the fake score, which is the node that is due."""
        return self.loss(self._fake_score)

    def teacher(self) -> TeacherPull:
        """Of the teacher, while no node is installed."""
        with self._installation.evaluate() as network:
            ranks = gather(PullSums.of(*self._ask(network)))
        num = sum(each.num for each in ranks)
        if num < FEW and is_main():
            logger.warning(
                "the measure gives %d samples in all: under %d the common share of a pull is a "
                "matter of luck",
                *(num, FEW),
            )
        return on_main(lambda: PullSums.pull(ranks), "adding up the teacher's pull")

    def _ask(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        found = self._measure(network)
        match found:
            case (Tensor() as residual, Tensor() as samples) if residual.dim() > 1 and len(
                residual
            ):
                if residual.shape == samples.shape:
                    return residual.detach(), samples.detach()
        raise SessionError(
            f"measure(network) gave {_kind(found)}: it must return two tensors (B, *data), the "
            "residuals (D(x_t) - x0) / sigma of the network and the student's samples x0"
        )


def _kind(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(_kind(part) for part in value)})"
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
