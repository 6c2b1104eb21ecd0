"""Settings of a DisBack session: what is recorded, where, and how the path is walked back."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from disback_plugin.config_base import StrictModel
from disback_plugin.schedule import FixedInterval, PerNode, Schedule, make_schedule

Arm = Literal["disback", "warm", "fixed"]
Codec = Literal["full", "delta", "bounded"]
InstallationKind = Literal["in-place", "separate", "lora"]
Rounding = Literal["auto", "stochastic", "nearest"]
IDLE_LOSS = 1.0  # of a network that leaves x_t as it is (see measure.py)

ScheduleSettings = Annotated[
    Schedule,
    BeforeValidator(make_schedule),
    PlainSerializer(lambda schedule: schedule.settings(), return_type=dict),
    WithJsonSchema({"type": "object"}),
]


class AutoRecord(StrictModel):
    """Automatic recording (stage 1): `record: {num_steps: CAP, auto: {}}`, nodes log-spaced.

    min_loss: a teacher whose loss is below it knows the student already: nothing is recorded, the
        teacher answers from there on, and the run is one with a fixed teacher.
    common: nothing is recorded either where that share of the teacher's pull, or more, is common
        to all samples (see `TeacherPull`): a path would damp a pull that is right as it is. 1: a
        path is recorded all the same.
    stop_at: recording ends at the node whose loss is this fraction of the teacher's, or less.
    noise: a node is left out unless its loss is below this fraction of that of the node before it.
    """

    min_loss: float = Field(default=IDLE_LOSS, ge=0)
    common: float = Field(default=0.5, gt=0, le=1)
    stop_at: float = Field(default=0.1, gt=0, lt=1)
    noise: float = Field(default=0.95, gt=0, le=1)


class RecordConfig(StrictModel):
    """Degradation recording (stage 1, Algorithm 1): how long, and after which steps a node is kept.

    Give `every` (a node every K steps, as in the paper), `at` (listed steps, counted from 1) or
    `auto` (log-spaced nodes, at most `num_steps` steps, see `AutoRecord`; what it decides needs a
    `measure`, without one all nodes are kept).
    Early, log-spaced nodes are the useful ones: late ones at a high learning rate are noise.
    """

    num_steps: int = Field(gt=0)
    every: int | None = Field(default=None, gt=0)
    at: tuple[int, ...] | None = None
    auto: AutoRecord | None = None

    @model_validator(mode="after")
    def _check(self) -> "RecordConfig":
        if sum(way is not None for way in (self.every, self.at, self.auto)) != 1:
            raise ValueError(
                "give exactly one of 'every' (a node every K steps), 'at' (a list) and 'auto'"
            )
        if self.every is not None and self.every > self.num_steps:
            raise ValueError(f"every={self.every} is more than num_steps={self.num_steps}: no node")
        if self.at is not None:
            rising = all(a < b for a, b in pairwise(self.at))
            if not self.at or not rising or self.at[0] < 1 or self.at[-1] > self.num_steps:
                raise ValueError(
                    f"'at' must rise within 1..num_steps={self.num_steps} (seen: {list(self.at)})"
                )
        return self

    @property
    def node_steps(self) -> tuple[int, ...]:
        """After how many recording steps each node 1, 2, ... is kept."""
        if self.at is not None:
            return self.at
        if self.auto is not None:
            return log_spaced(self.num_steps)
        assert self.every is not None
        return tuple(range(self.every, self.num_steps + 1, self.every))


def log_spaced(num_steps: int) -> tuple[int, ...]:
    """1, 2, 4, 8, ..., and num_steps: early nodes are damped teachers, late ones tend to noise."""
    doublings = [2**power for power in range(num_steps.bit_length())]
    return tuple(dict.fromkeys([*(step for step in doublings if step < num_steps), num_steps]))


def check_walk(record: RecordConfig, schedule: Schedule) -> None:
    """Raise ValueError or ConfigError where `schedule` cannot walk what is recorded."""
    num_nodes = len(record.node_steps)
    if num_nodes < 2:
        raise ValueError(
            "a path of one node has nothing to walk back: the fake score starts at it and "
            "the teacher answers at once. Record more nodes"
        )
    schedule.check(num_nodes)
    if record.auto is not None and isinstance(schedule, PerNode):
        raise ValueError(
            "schedule 'per-node' is for a known number of nodes, but automatic recording may keep "
            "fewer: use schedule 'fixed' or 'adaptive', or list the nodes with record 'at'"
        )


class DisBackConfig(StrictModel):
    """Settings of `DisBack.attach`.

    arm: `disback`; or a control: `warm` records as well, then keeps the teacher as the real score;
        `fixed` leaves the host as it is without the plugin.
    path: folder of the degradation path: recorded into, or reused where it holds a whole one.
    schedule: which node answers when (see `schedule.py`).
    codec: how nodes are stored: `full`; `delta` (bfloat16 difference to the teacher, half size);
        `bounded` (the difference in 4 bits, its error at most a tenth of it, a seventh of `full`).
    rounding: how a float32 node is cast for a teacher kept in bfloat16 or float16: to `nearest`,
        `stochastic`, or `auto`: to nearest unless the teacher's weights are exact in 16 bits.
    installation: how a node becomes the real score; None leaves it to the adapter.
    keep_teacher: write the teacher's own tensors into the path's folder too, as large as a node of
        codec `full`. All ranks of a machine then share them; without, each holds a copy.
    host: what else a recording hangs on (the host's script, rates, guidance), by name. It is kept
        with the path, and a run that reuses the path under others is told which.
    prefetch: read the next node in the background, so that a switch is a copy. Each rank then keeps
        its part of one node in host memory, in the teacher's dtype (2 or 4 bytes a parameter; under
        FSDP its shard's): off where that memory is short. The results are the same bits.
    """

    path: Path | None = None
    arm: Arm = "disback"
    record: RecordConfig | None = None
    schedule: ScheduleSettings = FixedInterval(interval=1000)
    codec: Codec = "full"
    rounding: Rounding = "auto"
    installation: InstallationKind | None = None
    keep_teacher: bool = True
    host: dict[str, JsonValue] = Field(default_factory=dict)
    prefetch: bool = True

    @model_validator(mode="after")
    def _check(self) -> "DisBackConfig":
        if self.arm != "fixed" and self.path is None:
            raise ValueError(f"arm {self.arm!r} needs 'path', the folder of the degradation path")
        if self.record is not None and self.arm == "disback":
            check_walk(self.record, self.schedule)
        return self

    def recording_settings(self) -> dict[str, Any]:
        """What a path's manifest says about how it was recorded."""
        assert self.record is not None
        settings = {"num_steps": self.record.num_steps, "at": list(self.record.node_steps)}
        auto = self.record.auto
        return settings if auto is None else {**settings, "auto": auto.model_dump()}
