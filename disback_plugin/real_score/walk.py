"""`RealScore`: what answers as the real score at each step of backtracking (DESIGN section 4)."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from disback_plugin.adaptive import Walk
from disback_plugin.errors import InstallError, count
from disback_plugin.path import DegradationPath
from disback_plugin.real_score.installation import Installation
from disback_plugin.schedule import Adaptive, Schedule

logger = logging.getLogger("disback")
LOST = 0.5  # rounding error, relative to the node, above which the cast is warned about


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

    def begin_step(self, step: int) -> Switch | None:
        """Install what `step` asks for, if it is not installed yet. Idempotent."""
        node = self.node_at(step)
        return None if node == self._installed else self.install(node)

    def evaluate(self) -> AbstractContextManager[nn.Module]:
        """The network to call as the real score, within the context."""
        return self.installation.evaluate()


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
        report = self.installation.install(0, self.installation.reference.tensors)
        self._installed = 0
        return Switch(0, 0, report.changed_tensors, report.num_tensors, 0.0, report.distance, 0.0)


class PathNodeScheduler(RealScore):
    """Walks a path back to the teacher as its schedule says (Eq. 8)."""

    def __init__(
        self, installation: Installation, path: DegradationPath, schedule: Schedule
    ) -> None:
        super().__init__(installation)
        if len(path) < 2:
            raise InstallError(
                f"{path.folder} has {count(len(path), 'node')}: with fewer than 2 there is "
                "nothing to walk back, the fake score starts at the last one"
            )
        schedule.check(len(path))
        self.path, self.schedule = path, schedule

    def node_at(self, step: int) -> int:
        return self.schedule.node_at(step, len(self.path))

    def install(self, node: int) -> Switch:
        reference = self.installation.reference
        tensors = self.path.read(node) if node else reference.tensors
        report = self.installation.install(node, tensors)
        if self._installed is not None and report.changed_tensors == 0:
            raise InstallError(
                f"installing node {node} in place of node {self._installed} changed none of "
                f"{report.num_tensors} tensors: the real score would silently stay the same. "
                "A teacher in 16 bits can lose a close node to rounding: use rounding 'stochastic'"
            )
        distance = self.path.nodes[node - 1].distance if node else 0.0
        if report.rounding_error > LOST:
            logger.warning(
                "node %d is mostly lost to rounding in the teacher's dtype: the rounding error is "
                "%.2g times the node's own distance to the teacher (%.3g before the cast, %.3g "
                "after). Keep the teacher in float32, or record later nodes",
                *(node, report.rounding_error, distance, report.distance),
            )
        self._installed = node
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
            report.distance,
            report.rounding_error,
        )


class AdaptiveScheduler(PathNodeScheduler):
    """Walks a path as far as the student has come (schedule `adaptive`).

    measure: a network's loss on the student's samples; `walk` is what was decided so far.
    """

    def __init__(
        self,
        installation: Installation,
        path: DegradationPath,
        schedule: Adaptive,
        walk: Walk,
        measure: Callable[[nn.Module], float] | None,
    ) -> None:
        super().__init__(installation, path, schedule)
        self.adaptive, self.walk, self.measure = schedule, walk, measure
        self._switch: Switch | None = None

    def node_at(self, step: int) -> int:
        measure = None if self.measure is None else self._loss_of
        return self.adaptive.advance(self.walk, step, len(self.path), measure)

    def begin_step(self, step: int) -> Switch | None:
        self._switch = None
        switch = super().begin_step(step)
        return switch or self._switch

    def _loss_of(self, node: int) -> float:
        assert self.measure is not None
        if node != self._installed:
            self._switch = self.install(node)
        with self.evaluate() as network:
            return self.measure(network)


def make_walk(
    installation: Installation,
    path: DegradationPath,
    schedule: Schedule,
    walk: Walk,
    measure: Callable[[nn.Module], float] | None,
) -> PathNodeScheduler:
    """What walks `path` back as `schedule` says; `walk` and `measure` are for `adaptive` alone."""
    if isinstance(schedule, Adaptive):
        return AdaptiveScheduler(installation, path, schedule, walk, measure)
    return PathNodeScheduler(installation, path, schedule)
