"""One lane of a batch: its stage and node at each step, decided as a session decides them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from disback_plugin.lab.compare.arms import ArmPlan
from disback_plugin.measure import RecordingState, TeacherPull
from disback_plugin.schedule import Walk


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
