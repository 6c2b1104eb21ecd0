"""The arms of a comparison, what each records and how it starts; a lane is one with one seed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from disback_plugin.config import AutoRecord, RecordConfig
from disback_plugin.config_base import nearest
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import DistillConfig, ExperimentConfig
from disback_plugin.measure import RecordingState, TeacherPull
from disback_plugin.schedule import Adaptive, Schedule, Walk

REMOVED = ("long-steps", "adaptive-warm", "adaptive-path")


@dataclass(frozen=True)
class ArmPlan:
    """One arm.

    record: None, or what is recorded before the student's first update. schedule: how the path is
    walked back; without one, the teacher answers. from_teacher: after recording, the fake score
    starts again as the teacher. num_warmup_steps: of the student's learning rate.
    """

    name: str
    record: RecordConfig | None = None
    schedule: Schedule | None = None
    from_teacher: bool = False
    num_warmup_steps: int = 0

    def distill(self, config: DistillConfig, student_lr: float | None) -> DistillConfig:
        """The training settings of this arm at that learning rate (None: the configured one)."""
        settings = config.model_dump()
        settings["student_lr"] = config.student_lr if student_lr is None else student_lr
        settings["student_lr_schedule"]["num_warmup_steps"] += self.num_warmup_steps
        return DistillConfig.model_validate(settings)


def make_arm(name: str, config: ExperimentConfig) -> ArmPlan:
    """The arm of that name for an experiment; raises ConfigError for an unknown name."""
    record, schedule = config.disback.record, config.disback.schedule
    walk_steps = schedule.num_steps(len(record.node_steps))
    arms = (
        ArmPlan("fixed"),
        ArmPlan("warm", record),
        ArmPlan("path", record, schedule, from_teacher=True),
        ArmPlan("disback", record, schedule),
        adaptive_arm(config),
        ArmPlan("lr-warmup", num_warmup_steps=record.num_steps + walk_steps),
    )
    for arm in arms:
        if arm.name == name:
            return arm
    if name in REMOVED:
        raise ConfigError(
            f"arm {name!r} was removed, with the long steps and the recording in mid-run that it "
            "was a control of (experiments/RESULTS.md, Tried and removed)"
        )
    raise ConfigError(f"unknown arm {name!r}; {nearest(name, [arm.name for arm in arms])}")


def adaptive_arm(config: ExperimentConfig) -> ArmPlan:
    """Automatic recording and the adaptive schedule, at the experiment's settings or the defaults.

    The defaults' caps are the experiment's own: as many recording steps, as long a stay at a node.
    """
    record, schedule = config.disback.record, config.disback.schedule
    if record.auto is None:
        record = RecordConfig(num_steps=record.num_steps, auto=AutoRecord())
    if not isinstance(schedule, Adaptive):
        num_nodes = len(config.disback.record.node_steps)
        cap = max(schedule.num_steps(num_nodes) // (num_nodes - 1), 1)
        schedule = Adaptive(cap=cap)
    return ArmPlan("adaptive", record, schedule)


@dataclass
class Lane:
    """One arm with one seed. `kept` are the recording steps after which nodes 1, 2, ... were kept.

    Steps are the host's, from 0. `num_record_steps` may fall when automatic recording ends.
    """

    plan: ArmPlan
    kept: list[int] = field(default_factory=list)
    num_record_steps: int = 0
    node: int = 0

    def __post_init__(self) -> None:
        self._recording = RecordingState()
        self._walk = Walk()
        if self.plan.record is not None:
            self.num_record_steps = self.plan.record.num_steps

    def start(self, measure: Callable[[], TeacherPull]) -> None:
        """Before the first step: whether to record."""
        record = self.plan.record
        if record is None or record.auto is None:
            return
        pull = measure()
        self._recording.losses = [pull.loss]
        if pull.calls_for(record.auto) != "path":
            self.num_record_steps = 0

    def recording(self, step: int) -> bool:
        """Whether the student is held still at `step`."""
        return step < self.num_record_steps

    def update_of(self, step: int) -> int:
        """The number of the student's update at `step`; while recording the step."""
        return step if self.recording(step) else step - self.num_record_steps

    def end_record_step(self, step: int, measure: Callable[[], float]) -> bool:
        """Whether the fake score is kept as a node after `step`; `measure`: its loss."""
        record, num_done = self.plan.record, step + 1
        assert record is not None
        if num_done not in record.node_steps:
            return False
        if record.auto is not None:
            if not self._recording.keep(record.auto, measure(), num_done == self.num_record_steps):
                return False
            if self._recording.near_enough(record.auto):
                self.num_record_steps = num_done
        self.kept.append(num_done)
        return True

    def begin_walk_step(self, step: int, measure: Callable[[int], float]) -> int:
        """The node that answers at `step`; 0 is the teacher. `measure(node)`: of a node."""
        schedule, local = self.plan.schedule, step - self.num_record_steps
        if schedule is None or len(self.kept) < 2:
            return 0
        self.node = schedule.advance(self._walk, local, len(self.kept), measure)
        return self.node
