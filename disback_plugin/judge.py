"""What automatic recording and the schedule `adaptive` decide from, the same on all ranks."""

from statistics import fmean

from torch import Tensor, nn

from disback_plugin.adaptive import Measure, cosine_of, loss_of, pull_products
from disback_plugin.distributed import gather
from disback_plugin.errors import SessionError
from disback_plugin.path import DegradationPath
from disback_plugin.real_score import Installation


class Judge:
    """A host's measure, made into losses and pulls over the whole batch; called on every rank.

    num_measurements: how many networks were asked about; what a resumed run asks again for want of
    the answer is not counted, so that it counts as the run that was not stopped.
    """

    def __init__(self, measure: Measure, installation: Installation, fake_score: nn.Module) -> None:
        self._measure, self._installation, self._fake_score = measure, installation, fake_score
        self.num_measurements = 0
        self._fake: Tensor | None = None
        self._teacher: Tensor | None = None
        self._first: Tensor | None = None

    def loss(self, network: nn.Module) -> float:
        """Of a node that is installed as the real score."""
        self.num_measurements += 1
        return self._mean_loss(self._ask(network))

    def teacher_loss(self) -> float:
        """Of the teacher, before recording."""
        self.num_measurements += 1
        self._teacher = self._ask_real_score()
        return self._mean_loss(self._teacher)

    def fake_score_loss(self) -> float:
        """Of the fake score, which is the node that is due."""
        self.num_measurements += 1
        self._fake = self._ask(self._fake_score)
        return self._mean_loss(self._fake)

    def keep_first(self) -> None:
        """The fake score, as last asked about, is node 1."""
        self._first = self._fake

    def cosine(self, path: DegradationPath) -> float:
        """Of the first node's pull with the teacher's, right after `fake_score_loss`.

        A run resumed since node 1 asks both again, node 1 in the fake score's place for a moment,
        where it was asked the first time.
        """
        assert self._fake is not None
        if self._teacher is None:
            self._teacher = self._ask_real_score()
        if self._first is None:
            own = self._installation.read_fake_score()
            try:
                self._installation.load_fake_score(path.read(1))
                self._first = self._ask(self._fake_score)
            finally:
                self._installation.load_fake_score(own)
        ranks = gather(pull_products(self._fake, self._first, self._teacher))
        pq, pp, qq = (sum(parts) for parts in zip(*ranks, strict=True))
        return cosine_of((pq, pp, qq))

    def _ask_real_score(self) -> Tensor:
        with self._installation.evaluate() as network:
            return self._ask(network)

    def _ask(self, network: nn.Module) -> Tensor:
        residual = self._measure(network)
        if not isinstance(residual, Tensor) or residual.dim() == 0:
            kind = type(residual).__name__
            seen = f"a {kind}" if kind != "Tensor" else "a single number, a loss perhaps"
            raise SessionError(
                f"measure(network) gave {seen}: it must return the residuals (D(x_t) - x0) / sigma "
                "of every sample, a tensor"
            )
        return residual.detach()

    @staticmethod
    def _mean_loss(residual: Tensor) -> float:
        return fmean(gather(loss_of(residual)))
