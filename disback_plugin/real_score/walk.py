"""`RealScore`: what answers as the real score at each step of backtracking (DESIGN section 4)."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from disback_plugin.distributed import is_alone
from disback_plugin.errors import InstallError, SessionError, count
from disback_plugin.path import DegradationPath
from disback_plugin.path.stored_node import verified
from disback_plugin.real_score.ahead import Ahead
from disback_plugin.real_score.copying import Node
from disback_plugin.real_score.footing import describe, refuse_overwritten
from disback_plugin.real_score.installation import Installation
from disback_plugin.real_score.staging import StagedNode
from disback_plugin.schedule import Schedule, Walk

logger = logging.getLogger("disback")
LOST = 0.5  # of a node's change, what a cast must keep along it, or it is warned about


@dataclass(frozen=True)
class Switch:
    """A node became the real score.

    distance: of the node as recorded, relative to the teacher; installed_distance: the same after
    the cast to the network's dtype; rounding_error: see InstallReport. All are 0 for the teacher.
    """

    node: int
    num_nodes: int
    changed_tensors: int
    num_tensors: int
    distance: float
    installed_distance: float
    rounding_error: float


class RealScore(ABC):
    """Strategy: decides which node answers at a step, and has it installed.

    Steps count from the start of backtracking (stage 2).
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._installed: int | None = 0
        self._switch: Switch | None = None  # of the step that has begun
        self._num_switches = self._num_evaluations = 0

    @abstractmethod
    def node_at(self, step: int) -> int:
        """The node that answers at `step`; 0 is the teacher."""

    @abstractmethod
    def install(self, node: int) -> Switch:
        """Install `node`; its tensors afterwards equal the node's, cast to the network's dtype."""

    @property
    def installed(self) -> int | None:
        """The node installed now; None when it is not known (a checkpoint was just loaded)."""
        return self._installed

    def forget(self) -> None:
        """The host may have overwritten the network: install again at the next step."""
        self._installed = None
        self.installation.forget()

    def begin_step(self, step: int) -> Switch | None:
        """Install what `step` asks for, if it is not installed yet. Idempotent."""
        self._switch = None
        node = self.node_at(step)
        if node != self._installed:
            self._switch = self.install(node)
        if self._switch is not None:
            self._num_switches += 1
        return self._switch

    def evaluate(self) -> AbstractContextManager[nn.Module]:
        """The network that the host calls as the real score, within the context."""
        self._num_evaluations += 1
        return self.installation.evaluate()

    def warn_if_overwritten(self) -> None:
        """At the end: read the real score once more. Its own buffers are warned about too."""
        total = len(self.installation.reference.tensors)
        if (names := self.installation.overwritten()) and self._installed is not None:
            logger.warning(
                "the real score is not %s any more, as it was left: %s",
                *(self._name(self._installed), describe(names, total)),
            )

    def refuse_overwritten(self, names: Sequence[str], due: str) -> None:
        """Raise SessionError where parameters moved since the last switch, on any rank."""
        if self._installed is None:
            return
        moved = [name for name in names if name not in self.installation.buffers]
        if len(moved) < len(names):
            logger.warning(
                "buffers of the real score moved while it answered (%s): put the teacher in eval "
                "mode, if these are statistics of its own",
                ", ".join(sorted(set(names) - set(moved))[:3]),
            )
        was = self._name(self._installed)
        total = len(self.installation.reference.tensors)
        what = f"something else wrote to the real score, which was {was}, before {due}"
        refuse_overwritten(moved, total, what)

    @staticmethod
    def _name(node: int) -> str:
        return f"node {node}" if node else "the teacher"

    def close(self) -> None:
        """End what goes on in the background."""
        return

    def warn_at_end(self) -> None:
        """Warn where the run walked no node, or ended on one."""
        if self._num_switches == 0:
            logger.warning(
                "DisBack was attached but never installed a node: training stopped during "
                "recording, or begin_step was not called"
            )
        if self._installed:
            logger.warning(
                "training ended while node %d answers as the real score, before the teacher's "
                "turn: train longer, or shorten the schedule; restore_teacher() brings it back",
                self._installed,
            )


class FixedTeacher(RealScore):
    """The usual baseline, "w/o convergence trajectory": the teacher answers at every step."""

    def node_at(self, step: int) -> int:
        return 0

    def begin_step(self, step: int) -> Switch | None:
        """Bring the teacher back where it may be gone; no switch where it was there all along."""
        switch = super().begin_step(step)
        return switch if switch is not None and switch.changed_tensors else None

    def install(self, node: int) -> Switch:
        assert node == 0, "a fixed teacher has no other node"
        report = self.installation.install(0, self.installation.verified_teacher())
        self._installed = 0
        return Switch(0, 0, report.changed_tensors, report.num_tensors, 0.0, 0.0, 0.0)


class PathNodeScheduler(RealScore):
    """Walks a path back to the teacher as its schedule says (Eq. 8).

    walk: what an adaptive schedule has decided so far, from `loss`: a network's loss on the
    student's samples. prefetch: once a node is installed the next is made ready in the background;
    what goes wrong there is raised at the next step, or on several ranks where the node is due.
    """

    def __init__(
        self,
        installation: Installation,
        path: DegradationPath,
        schedule: Schedule,
        walk: Walk | None = None,
        loss: Callable[[nn.Module], float] | None = None,
        prefetch: bool = True,
    ) -> None:
        super().__init__(installation)
        if len(path) < 2:
            raise InstallError(
                f"{path.folder} has {count(len(path), 'node')}: with fewer than 2 there is "
                "nothing to walk back, the fake score starts at the last one"
            )
        schedule.check(len(path))
        self.path, self.schedule, self._num_nodes = path, schedule, len(path)
        self.walk, self.loss = walk or Walk(), loss
        self._ahead = Ahead() if prefetch else None

    def node_at(self, step: int) -> int:
        loss_of = None if self.loss is None else self._loss_of
        return self.schedule.advance(self.walk, step, self._num_nodes, loss_of)

    def begin_step(self, step: int) -> Switch | None:
        """As the base; SessionError where the whole path was walked and the host used no node."""
        if self._ahead is not None and self._ahead.failed and is_alone():
            self._ahead.take_error()  # one rank's alone would leave the others waiting
        switch = super().begin_step(step)
        if switch is not None and switch.node == 0 and self._num_switches == len(self.path):
            self._check_used()
        return switch

    def install(self, node: int) -> Switch:
        report = self.installation.install(node, self.path.read_together(node, self._read))
        self.refuse_overwritten(report.overwritten, f"{self._name(node)} was due")
        if self._installed is not None and report.changed_tensors == 0:
            raise InstallError(
                f"installing node {node} in place of node {self._installed} changed none of "
                f"{report.num_tensors} tensors: the real score would silently stay the same. "
                "A teacher in 16 bits can lose a close node to rounding: use rounding 'stochastic'"
            )
        distance = self.path.nodes[node - 1].distance if node else 0.0
        installed = distance if report.distance is None else report.distance
        if report.kept < LOST:
            logger.warning(
                "node %d is mostly lost to rounding in the teacher's dtype, in what it answers "
                "too: %.0f%% of its change is left along it (distance %.3g before the cast, %.3g "
                "after). Use rounding 'auto', keep the teacher in float32, or record later nodes",
                *(node, 100 * report.kept, distance, installed),
            )
        self._installed = node
        if node:
            self._make_ready(node - 1)
        logger.info(
            "real score: node %d of %d%s, %d of %d tensors changed, distance to teacher %.3g",
            *(node, len(self.path), " (the teacher)" if node == 0 else ""),
            *(report.changed_tensors, report.num_tensors, distance),
        )
        return Switch(
            node,
            len(self.path),
            report.changed_tensors,
            report.num_tensors,
            distance,
            installed,
            report.rounding_error,
        )

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()

    def _read(self, node: int) -> Node | StagedNode:
        staged = None if self._ahead is None else self._ahead.take(node)
        if staged is not None:
            return staged  # verified before anything of it is installed, as the other
        return verified(self.path.open_node(node), self.installation.parts())

    def _make_ready(self, node: int) -> None:
        if self._ahead is None or (stage := self.installation.staging(node)) is None:
            return
        path = self.path  # not self, which its end would wait for
        self._ahead.begin(node, lambda stop: stage(path.open_node(node), stop))

    def _loss_of(self, node: int) -> float:
        assert self.loss is not None
        if node != self._installed:
            self._switch = self.install(node)
        with self.installation.evaluate() as network:
            return self.loss(network)

    def _check_used(self) -> None:
        if self.installation.needs_real_score and self._num_evaluations == 0:
            raise SessionError(
                f"every node was installed, but none was used: with installation "
                f"{self.installation.name!r} call the network of `with disback.real_score() as "
                "network:` as the real score, not the teacher module"
            )
