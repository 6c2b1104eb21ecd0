"""Schedules: which node of the path answers as the real score at a step of stage 2 (Eq. 8).

A schedule is a pure function of the step, so resuming needs no state; `adaptive` alone decides from
measurements, and its state is in the checkpoint. A new one is a subclass with a `name`, registered
by `@register_schedule`; its fields become its settings:

    schedule: {name: per-node, intervals: [1000, 1000, 10000]}
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from disback_plugin.config_base import StrictModel, nearest, parse_settings
from disback_plugin.errors import ConfigError


@dataclass
class Walk:
    """Where an adaptive walk is: the node, since when, its first loss. JSON-able.

    Steps count from the start of backtracking; `decided` is the last step decided on.
    """

    node: int | None = None
    since: int = 0
    first: float | None = None
    decided: int = -1


class Schedule(StrictModel, ABC):
    """Maps steps since the start of backtracking to a node index; never rises, ends at 0."""

    name: ClassVar[str]

    @abstractmethod
    def node_at(self, step: int, num_nodes: int) -> int:
        """The node at `step` (>= 0) of a path with nodes 1..num_nodes; 0 is the teacher.

        Node `num_nodes` is where the fake score starts, so the first real score is the one before.
        """

    def advance(
        self, walk: Walk, step: int, num_nodes: int, loss_of: Callable[[int], float] | None
    ) -> int:
        """The node at `step` of a walk; one that is decided step by step is kept in `walk`.

        loss_of(node): its loss on the student's samples now; None: there is no measure.
        """
        return self.node_at(step, num_nodes)

    def num_steps(self, num_nodes: int) -> int:
        """Steps spent on nodes before the teacher answers for good."""
        step = 0
        while self.node_at(step, num_nodes) > 0:
            step += 1
        return step

    def check(self, num_nodes: int) -> None:
        """Raise ConfigError if this schedule cannot walk a path of `num_nodes` nodes."""

    def settings(self) -> dict[str, Any]:
        """The schedule as plain data: what `make_schedule` accepts."""
        return {"name": self.name, **self.model_dump(mode="json")}


_SCHEDULES: dict[str, type[Schedule]] = {}
AnySchedule = TypeVar("AnySchedule", bound=type[Schedule])


def register_schedule(cls: AnySchedule) -> AnySchedule:
    """Class decorator: make a schedule available under its `name`; a taken name is an error."""
    if not isinstance(getattr(cls, "name", None), str):
        raise ConfigError(f"{cls.__qualname__} has no `name`: give it one, a string")
    if cls.name in _SCHEDULES:
        raise ConfigError(
            f"schedule {cls.name!r} is already registered by {_SCHEDULES[cls.name].__qualname__}"
        )
    _SCHEDULES[cls.name] = cls
    return cls


def list_schedules() -> list[str]:
    """Names of all registered schedules."""
    return sorted(_SCHEDULES)


def make_schedule(settings: Any) -> Schedule:
    """A schedule from its settings `{"name": ..., **fields}`; a Schedule passes through."""
    if isinstance(settings, Schedule):
        return settings
    if not isinstance(settings, dict) or "name" not in settings:
        raise ConfigError(
            f"a schedule needs a name, one of {list_schedules()} (seen: {settings!r})"
        )
    fields = dict(settings)
    name = fields.pop("name")
    if name not in _SCHEDULES:
        raise ConfigError(f"unknown schedule {name!r}; {nearest(str(name), list_schedules())}")
    return parse_settings(_SCHEDULES[name], fields, f"schedule {name!r}")


def without_removed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule's settings, as an earlier version saved them, without keys removed since."""
    schedule = _SCHEDULES.get(settings.get("name", ""))
    removed = {} if schedule is None else schedule.removed
    return {key: value for key, value in settings.items() if key not in removed}


@register_schedule
class FixedInterval(Schedule):
    """Every node answers for the same number of steps."""

    name = "fixed"
    interval: int = Field(gt=0)

    def node_at(self, step: int, num_nodes: int) -> int:
        return max(num_nodes - 1 - step // self.interval, 0)

    def num_steps(self, num_nodes: int) -> int:
        return self.interval * max(num_nodes - 1, 0)


@register_schedule
class PerNode(Schedule):
    """One interval a node, in the order of visit: the first is for node `num_nodes - 1`.

    The paper gives the nodes visited first 1,000 steps each and the later ones 10,000 (B.2, EDM).
    """

    name = "per-node"
    intervals: tuple[int, ...] = Field(min_length=1)

    def model_post_init(self, context: Any) -> None:
        if any(interval <= 0 for interval in self.intervals):
            raise ValueError(f"intervals must be positive numbers of steps: {self.intervals}")

    def node_at(self, step: int, num_nodes: int) -> int:
        self.check(num_nodes)
        node = num_nodes - 1
        for interval in self.intervals:
            if step < interval:
                break
            step -= interval
            node -= 1
        return max(node, 0)

    def check(self, num_nodes: int) -> None:
        if len(self.intervals) != num_nodes - 1:
            raise ConfigError(
                f"schedule 'per-node' has {len(self.intervals)} intervals, but a path of "
                f"{num_nodes} nodes is walked through {num_nodes - 1} of them (the fake score "
                f"starts at the last, the teacher has no interval): give {num_nodes - 1} intervals"
            )

    def num_steps(self, num_nodes: int) -> int:
        return sum(self.intervals)


@register_schedule
class Adaptive(Schedule):
    """Walks on when the student has reached the node, at the latest after `cap` steps.

    Reached: the node's loss on the student's samples has fallen to `reached` times what it was when
    the node was installed; looked at every `every` steps. A node whose loss is below `known` from
    the start is skipped: with a `cap` of `every` or less that is all. Without a measure every node
    answers for `cap` steps.
    """

    name = "adaptive"
    removed: ClassVar[Mapping[str, str]] = {
        "stride": "the student takes no long first steps any more, they are the host's own "
        "learning-rate schedule (experiments/RESULTS.md, Tried and removed); leave the key out"
    }
    cap: int = Field(gt=0)
    every: int = Field(default=5, gt=0)
    reached: float = Field(default=0.7, gt=0, lt=1)
    known: float = Field(default=0.5, ge=0)

    def node_at(self, step: int, num_nodes: int) -> int:
        """The latest a node can answer: with every stay as long as the cap."""
        return max(num_nodes - 1 - step // self.cap, 0)

    def num_steps(self, num_nodes: int) -> int:
        return self.cap * max(num_nodes - 1, 0)

    def advance(
        self, walk: Walk, step: int, num_nodes: int, loss_of: Callable[[int], float] | None
    ) -> int:
        """The node at `step`; `walk` remembers, so that asking again decides nothing anew."""
        if walk.node is None:
            walk.node, walk.since = num_nodes - 1, step
        while walk.node > 0 and step > walk.decided and self._due(walk, step, loss_of):
            walk.node, walk.since, walk.first = walk.node - 1, step, None
        walk.decided = max(walk.decided, step)
        return walk.node

    def _due(self, walk: Walk, step: int, loss_of: Callable[[int], float] | None) -> bool:
        stay = step - walk.since
        if stay >= self.cap:
            return True
        if loss_of is None or stay % self.every:
            return False
        assert walk.node is not None
        loss = loss_of(walk.node)
        if walk.first is None:
            walk.first = loss
            return loss < self.known
        return loss <= self.reached * walk.first
