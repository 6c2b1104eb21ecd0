"""How far a session is: told to its host (`Turn`), kept in a checkpoint (`Progress`)."""

import logging
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from torch import nn

from disback_plugin.config import DisBackConfig, RecordConfig, Rounding
from disback_plugin.config_base import parse_settings
from disback_plugin.distributed import is_main
from disback_plugin.errors import SessionError
from disback_plugin.measure import RecordingState, Start
from disback_plugin.path import TeacherReference
from disback_plugin.reading import shown
from disback_plugin.real_score import Switch
from disback_plugin.schedule import Walk, make_schedule, without_removed

logger = logging.getLogger("disback")
VERSION = 2
_COUNT_ON = (
    "give every step of the run one number, which counts on by 1 over epochs and resumes (to go "
    "back to a checkpoint build the networks anew, attach, and call load_state_dict())"
)
_STANDS = (
    "step %d begins again after its end: give every step a number of its own; with gradient "
    "accumulation call begin_step before the first and end_step after the last of its parts"
)
_JUMPS = (
    "step %d follows %s %d: the schedule counts the host's numbers, so nodes answer for fewer "
    "steps than it says; count on by 1"
)
Stage = Literal["record", "backtrack", "teacher"]
Loss = Callable[[nn.Module], float]  # of a network on the student's samples


@dataclass(frozen=True, init=False)
class Turn:
    """What the host does at a step. `node` answers as the real score; 0 is the teacher.

    update_student is False while recording: no student update, no step of its optimizer, scheduler
    or EMA. `switch` is set at the step at which another node was installed.
    """

    step: int
    stage: Stage
    node: int
    update_student: bool
    switch: Switch | None = None

    def __init__(
        self, step: int, stage: Stage, node: int, update_student: bool, switch: Switch | None = None
    ) -> None:
        own = self.__dict__  # one is made at every step, and the usual `__init__` is twice as slow
        own["step"], own["stage"], own["node"] = step, stage, node
        own["update_student"], own["switch"] = update_student, switch


@dataclass
class Progress:
    """How far a session is. Steps are the host's; `num_record_steps` is 0 for a reused path.

    start: what the first step called for; None before it, and for a reused path.
    recording, walk: what was decided from measurements so far.
    """

    first_step: int | None = None
    last_step: int | None = None
    num_record_steps: int = 0
    student_checksum: int | None = None
    start: Start | None = None
    recording: RecordingState = field(default_factory=RecordingState)
    walk: Walk = field(default_factory=Walk)

    @property
    def no_path(self) -> bool:
        """Whether nothing is recorded: the teacher answers at every step."""
        return self.start in ("known", "common")

    @property
    def measured(self) -> bool:
        """Whether decisions from a measure go on: what follows needs one too."""
        if self.no_path:
            return False
        return bool(self.recording.losses) or self.walk.first is not None

    def walked_by(self, loss: Loss | None) -> Loss | None:
        """`loss`, but None for a walk that has gone by its caps so far: it goes on as it was saved.

        With a measure a node's first loss is known as soon as it answers.
        """
        is_unmeasured = bool(self.walk.node) and self.walk.first is None
        if loss is None or not is_unmeasured:
            return loss
        if is_main():
            logger.info("the walk goes on by its cap alone: it was begun without a measure")
        return None

    def local(self, step: int) -> int:
        """Steps from `first_step` to the host's `step`; SessionError where it comes before."""
        if self.first_step is None:
            raise SessionError(f"step {step} comes before the first begin_step")
        if step < self.first_step:
            raise SessionError(
                f"step {step} comes before step {self.first_step}, where this session began: "
                f"{_COUNT_ON}"
            )
        return step - self.first_step

    def recording_at(self, step: int) -> bool:
        """Whether `step` is one of recording."""
        first = self.first_step
        return first is not None and 0 <= step - first < self.num_record_steps

    def num_done(self) -> int:
        """Steps that have ended."""
        if self.first_step is None or self.last_step is None:
            return 0
        return self.last_step - self.first_step + 1

    def dump(self, config: DisBackConfig, teacher: TeacherReference) -> dict[str, Any]:
        """JSON-able state of a few plain numbers; node tensors stay in the path."""
        return {
            "version": VERSION,
            "settings": _settings(config),
            "teacher": teacher.fingerprint,
            "progress": asdict(self),
        }

    @classmethod
    def load(
        cls, state: Mapping[str, Any], config: DisBackConfig, teacher: TeacherReference
    ) -> "Progress":
        """The progress in `state`; SessionError unless it is of these settings and teacher."""
        if state.get("version") == 1:
            state = _from_version_1(state)
        _check(state, config, teacher)
        progress = dict(state["progress"])
        for name, kind in (("recording", RecordingState), ("walk", Walk)):
            progress[name] = kind(**progress.get(name, {}))
        return cls(**progress)


def whole(step: object) -> int:
    """A host's step as a plain number, also of numpy or torch; SessionError for no whole one."""
    if type(step) is int:
        return step
    try:
        return int(operator.index(step))  # type: ignore[arg-type]
    except TypeError:
        raise SessionError(
            f"a step is a whole number (seen: {type(step).__name__} {shown(step)}): count the "
            "host's steps"
        ) from None


class Steps:
    """The host's steps in this process: they count on by one, over epochs and resumes.

    Asking twice for a step is no fault, and a resume may repeat the last one. `last_step` below is
    Progress's, the step that has ended last.
    """

    def __init__(self) -> None:
        self._begun: int | None = None
        self._warned: set[str] = set()

    def begin(self, step: int, progress: Progress) -> None:
        """Raise SessionError where steps go back, and while recording where one is left out."""
        begun, ended = self._begun, progress.last_step
        if begun is None or not begun == ended == step - 1:  # else it is the next one
            last = ended if begun is None else begun
            if last is not None and step != last:
                self._count_on(step, last, begun is None, progress)
            elif step == begun == ended:
                self._warn("stand", _STANDS, step)
        self._begun = step

    def _count_on(self, step: int, last: int, resumed: bool, progress: Progress) -> None:
        after = "the checkpoint's last step" if resumed else "step"
        if step < last:
            raise SessionError(f"step {step} comes after {after} {last}: {_COUNT_ON}")
        if progress.recording_at(last + 1) and step > last + 1:
            raise SessionError(
                f"step {step} follows {after} {last}, a jump while recording: {_COUNT_ON}"
            )
        if progress.recording_at(last) and progress.last_step != last:
            raise SessionError(
                f"step {step} begins, but step {last} has not ended: call end_step() after every "
                "step"
            )
        if step > last + 1:
            self._warn("jump", _JUMPS, step, after, last)

    def end(self, step: int) -> None:
        """Raise SessionError for another step than the one that was begun."""
        if self._begun is not None and step != self._begun:
            raise SessionError(
                f"end_step({step}) comes after begin_step({self._begun}): give both the same "
                "number, and count on after end_step()"
            )

    def _warn(self, what: str, message: str, *values: object) -> None:
        """Once a session: the host does it at every step."""
        if what not in self._warned and is_main():
            logger.warning(message, *values)
        self._warned.add(what)


def _settings(config: DisBackConfig) -> dict[str, Any]:
    """The settings that may not change between a checkpoint and its resume."""
    keys = {"arm", "record", "schedule", "codec", "rounding", "installation"}
    return config.model_dump(mode="json", include=keys)


def with_saved_rounding(config: DisBackConfig, state: Mapping[str, Any]) -> DisBackConfig:
    """Where it is left to us (`auto`), a run goes on as it began: by an older default, too."""
    saved = state.get("settings", {}).get("rounding")
    if config.rounding == "auto" and saved in get_args(Rounding):
        return config.model_copy(update={"rounding": saved})
    return config


def as_saved(
    config: DisBackConfig, state: Mapping[str, Any], left_open: Collection[str]
) -> DisBackConfig:
    """`config`, but `record` and `schedule` as in `state` where they are left open."""
    saved = state.get("settings", {})
    own = {name: saved[name] for name in left_open if name in saved}
    if "schedule" in own:
        own["schedule"] = make_schedule(without_removed(own["schedule"]))
    if own.get("record") is not None:
        own["record"] = parse_settings(RecordConfig, own["record"], "the checkpoint's state")
    return config.model_copy(update=own)


def _check(state: Mapping[str, Any], config: DisBackConfig, teacher: TeacherReference) -> None:
    if state.get("version") != VERSION:
        raise SessionError(
            f"this DisBack state has version {state.get('version')!r}, expected {VERSION}: resume "
            "with the release that wrote it"
        )
    saved, now = dict(state["settings"]), _settings(config)
    saved["schedule"] = make_schedule(saved["schedule"]).settings()  # with newer settings' defaults
    changed = [key for key in now if saved.get(key) != now[key]]
    if changed:
        details = "; ".join(f"{key}: {saved.get(key)} -> {now[key]}" for key in changed)
        raise SessionError(f"the checkpoint was made with other settings ({details})")
    if state["teacher"] != teacher.fingerprint:
        raise SessionError(
            "the checkpoint was made with another teacher: give that one, and attach before the "
            "host loads its checkpoint (a checkpoint can hold a node in the teacher's place)"
        )


def _from_version_1(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of the version that could record in mid-run, of a run that did not."""
    settings, progress = dict(state["settings"]), dict(state["progress"])
    settings["schedule"] = without_removed(settings["schedule"])
    stride, direct = progress.pop("stride", {}), progress.pop("direct", False)
    waits = stride.get("wait", 0) > 0 or stride.get("common_loss") is not None
    if waits or (stride.get("decided", 0) > 0 and not direct):
        raise SessionError(
            "this DisBack state of version 1 belongs to a run that "
            f"{'takes long steps, or waits for a path' if waits else 'recorded in mid-run'}, which "
            "was removed (experiments/RESULTS.md, Tried and removed): resume with the release that "
            "wrote it, or start the run again"
        )
    if direct:
        losses, auto = progress["recording"]["losses"], settings["record"]["auto"]
        progress["start"] = "known" if losses[-1] < auto["min_loss"] else "common"
    return {**state, "version": VERSION, "settings": settings, "progress": progress}
