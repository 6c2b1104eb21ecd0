"""What automatic recording and the schedule `adaptive` decide from, the same on all ranks."""

from statistics import fmean

from torch import Tensor, nn

from disback_plugin.adaptive import Measure, cosine_of, loss_of, pull_products
from disback_plugin.distributed import gather
from disback_plugin.path import DegradationPath
from disback_plugin.real_score import Installation


class Judge:
    """A host's measure, made into losses and pulls over the whole batch; called on every rank."""

    def __init__(self, measure: Measure, installation: Installation, fake_score: nn.Module) -> None:
        self._measure, self._installation, self._fake_score = measure, installation, fake_score
        self._fake: Tensor | None = None

    def loss(self, network: nn.Module) -> float:
        """Of any network: the real score in use, or a node."""
        return self._mean_loss(self._measure(network).detach())

    def real_score_loss(self) -> float:
        """Of what is installed as the real score."""
        with self._installation.evaluate() as network:
            return self.loss(network)

    def fake_score_loss(self) -> float:
        """Of the fake score, which is the node that is due."""
        self._fake = self._measure(self._fake_score).detach()
        return self._mean_loss(self._fake)

    def cosine(self, path: DegradationPath) -> float:
        """Of the first node's pull with the teacher's, right after `fake_score_loss`.

        The teacher is the real score before and after: node 1 takes its place for a moment.
        """
        assert self._fake is not None
        teacher = self._residual()
        try:
            self._installation.install(1, path.read(1))
            node = self._residual()
        finally:
            self._installation.install(0, self._installation.reference.tensors)
        ranks = gather(pull_products(self._fake, node, teacher))
        pq, pp, qq = (sum(parts) for parts in zip(*ranks, strict=True))
        return cosine_of((pq, pp, qq))

    def _residual(self) -> Tensor:
        with self._installation.evaluate() as network:
            return self._measure(network).detach()

    @staticmethod
    def _mean_loss(residual: Tensor) -> float:
        return fmean(gather(loss_of(residual)))
