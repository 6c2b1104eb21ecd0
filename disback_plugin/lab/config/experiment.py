"""Settings of one experiment: teacher, student, distillation, DisBack, evaluation, book-keeping."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from disback_plugin.config import Codec, RecordConfig, Rounding, ScheduleSettings, check_walk
from disback_plugin.config_base import StrictModel, known_name, nearest, parse_settings
from disback_plugin.diffusion import STUDENT_GRADIENTS, Denoiser
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.extends import read_extended
from disback_plugin.lab.config.lora import LoRASettings
from disback_plugin.lab.config.networks import DenoiserConfig, NetworkConfig, make_teacher
from disback_plugin.lab.config.students import StudentConfig
from disback_plugin.lab.config.training import DistillConfig, TeacherTraining
from disback_plugin.lab.problems import Problem, ProblemConfig
from disback_plugin.plain_yaml import parse_yaml
from disback_plugin.schedule import FixedInterval

MIN_PROBED = 4  # one half is measured on, against the other
# YAML 1.1 reads 1e-4 as text (it wants 1.0e-4); nobody who types it means text.
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class TeacherConfig(StrictModel):
    """The teacher: trained here, loaded from `file` (such a denoiser's weights), or a `checkpoint`.

    checkpoint: a spec of `load_denoiser` with its `options`; `teacher: edm-pkl:FILE` is short for
    it. It brings its own denoiser and network, the other two need them here.
    """

    denoiser: DenoiserConfig | None = None
    network: NetworkConfig | None = None
    training: TeacherTraining | None = None
    file: Path | None = None
    checkpoint: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    num_sampling_steps: int = Field(default=18, gt=0)  # Heun steps of its own samples
    # default: the denoiser's own; of a checkpoint no more than EDM's 80
    sampling_sigma_max: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "TeacherConfig":
        sources = (self.training, self.file, self.checkpoint)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give exactly one of 'training' and 'file', or a 'checkpoint'")
        own = (self.denoiser, self.network)
        if self.checkpoint is not None and own != (None, None):
            raise ValueError("a 'checkpoint' brings its own 'denoiser' and 'network'")
        if self.checkpoint is None and None in own:
            raise ValueError("'training' and 'file' need 'denoiser' and 'network'")
        if self.checkpoint is None and self.options:
            raise ValueError("'options' are the checkpoint's: they need 'checkpoint'")
        return self

    def make(self, problem: Problem) -> Denoiser:
        """A teacher with its own `denoiser` and `network`, before training."""
        assert self.denoiser is not None
        assert self.network is not None
        seed = 0 if self.training is None else self.training.seed
        shape, num_classes = problem.data_shape, problem.num_classes
        return make_teacher(self.denoiser, self.network, shape, num_classes, seed)

    @property
    def sigma_data(self) -> float:
        """The data's std; 0.5, the published models' value, for a checkpoint."""
        return 0.5 if self.denoiser is None else self.denoiser.sigma_data


class DisBackSection(StrictModel):
    """What the arms `disback` and `warm` record, and how `disback` walks the path back."""

    record: RecordConfig
    schedule: ScheduleSettings = FixedInterval(interval=50)
    codec: Codec = "full"
    rounding: Rounding = "auto"


class EvaluationConfig(StrictModel):
    """Metrics of the student's EMA; `thresholds`, of `primary`, are fixed beforehand.

    num_probed: samples that the mismatch is measured on (see `ScoreProbe`), all at once; 0: it is
    not. batch_size: samples a forward pass, of the student and of the teacher.
    """

    every: int = Field(gt=0)
    num_samples: int = Field(default=1000, gt=1)
    num_saved: int = Field(default=256, ge=0)
    num_probed: int = Field(default=512, ge=0)
    batch_size: int = Field(default=512, gt=0)
    primary: str
    thresholds: tuple[float, ...] = ()
    metrics: tuple[str, ...] | None = None  # default: all that the problem's evaluator gives

    @field_validator("num_probed")
    @classmethod
    def _enough(cls, num: int) -> int:
        if 0 < num < MIN_PROBED or num % 2:
            raise ValueError(f"an even number of at least {MIN_PROBED}, or 0")
        return num


class CheckpointConfig(StrictModel):
    """A checkpoint every `every` steps, of which the newest `keep` stay.

    keep_students: the student every so many steps, all of which stay: `disback eval RUN --every`.
    """

    every: int = Field(default=500, gt=0)
    keep: int = Field(default=2, gt=0)
    keep_students: int | None = Field(default=None, gt=0)


class WandbConfig(StrictModel):
    """Weights & Biases; `auto` is online only where an API key is configured."""

    project: str = "disback"
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"


class LoggingConfig(StrictModel):
    """A line in metrics.jsonl every `every` steps; a bar on a terminal, in a log a line at times.

    wandb, tensorboard: the same numbers, and grids of samples, there too.
    """

    every: int = Field(default=10, gt=0)
    progress: bool = True
    wandb: WandbConfig | None = None
    tensorboard: bool = False


class ExperimentConfig(StrictModel):
    """One experiment: everything but the arm and the seed of a run.

    method: the family of score distillation, by its student gradient: `diff-instruct`, `dmd`, `vsd`
    or what else is registered. lora: student and fake score are LoRAs on the teacher, one base in
    memory for all three. channels_last, compile (torch.compile): see `speed_up`.
    gradient_checkpointing: activations of student and fake score are computed again in the backward
    pass, not kept: less memory, one more forward pass, the same bits.
    sharding: `fsdp2` cuts teacher, fake score and student up over the processes (see
    lab/trainer/sharding.py); the mismatch is not measured then.
    draw_on_device: noise from the device's generator, quicker, and on a GPU other noise than the
    CPU's.
    """

    method: str = "diff-instruct"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    problem: ProblemConfig
    teacher: TeacherConfig
    student: StudentConfig
    distill: DistillConfig
    lora: LoRASettings | None = None
    disback: DisBackSection
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    channels_last: bool = False
    compile: bool = False
    gradient_checkpointing: bool = False
    sharding: Literal["fsdp2"] | None = None
    draw_on_device: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: int | None = Field(default=None, gt=0)

    _method = field_validator("method")(lambda name: known_name(name, list(STUDENT_GRADIENTS)))
    _spec = field_validator("teacher", mode="before")(
        lambda teacher: {"checkpoint": teacher} if isinstance(teacher, str) else teacher
    )

    @model_validator(mode="after")
    def _check(self) -> "ExperimentConfig":
        if self.disback.record.num_steps >= self.distill.num_steps:
            raise ValueError(
                f"disback.record.num_steps={self.disback.record.num_steps} counts towards"
                f" distill.num_steps={self.distill.num_steps} and must be less"
            )
        check_walk(self.disback.record, self.disback.schedule)
        self._check_lora()
        if self.sharding and self.compile:
            raise ValueError("sharding was not tried with compile: leave one of the two out")
        names = self.problem.metric_names
        chosen = self.evaluation
        for metric in (chosen.primary, *(chosen.metrics or ())):
            if metric not in names:
                hint = nearest(metric, list(names))
                raise ValueError(f"problem {self.problem.kind!r} has no metric {metric!r}; {hint}")
        return self

    @property
    def lora_scale(self) -> float:
        """What the product of a LoRA's factors is multiplied by."""
        assert self.lora is not None
        return self.lora.alpha / self.lora.rank

    def _check_lora(self) -> None:
        if self.lora is None:
            return
        if self.teacher.checkpoint is None:
            raise ValueError("'lora' is for a teacher that is a checkpoint of diffusers")
        if self.student.kind != "denoiser" or self.student.checkpoint is not None:
            raise ValueError(
                "with 'lora' the student begins as its teacher, on one base: take "
                "student.checkpoint and another kind than 'denoiser' out"
            )
        if self.compile or self.sharding:
            raise ValueError(
                "'compile' and 'sharding' do not go with 'lora', whose adapters are switched"
            )

    def to_yaml(self) -> str:
        """The resolved settings as YAML that `load_config` reads back to an equal object."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(file: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read and validate a YAML file, after `overrides` such as `distill.student_lr=1e-4`.

    A file may have `extends: OTHER.yaml` (see `read_extended`); overrides come last.
    Raises ConfigError naming the file, the key, the value seen and, for an unknown key, the nearest
    valid one.
    """
    return parse_config(read_extended(Path(file)), str(file), overrides)


def parse_config(data: Any, source: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """As `load_config`, from data already read (a config embedded in the package)."""
    return parse_settings(ExperimentConfig, apply_overrides(data, overrides), source)


def apply_overrides(data: Any, overrides: Sequence[str]) -> Any:
    """A copy of `data` with every `key.of.section=value` set; validation comes after.

    Sections that are missing or null are made. Raises ConfigError for text without `=` and for a
    key that goes through something that is not a section.
    """
    result = _copied(data)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {text!r} is not of the form key=value")
        _set(result, key.strip(), _value(value, text), text)
    return result


def _value(value: str, text: str) -> Any:
    if _FLOAT.fullmatch(value.strip()):
        return float(value)
    return parse_yaml(value, f"the value of override {text!r}")


def _copied(data: Any) -> Any:
    """A deep copy in which sections that a YAML alias repeats are no longer one object."""
    if isinstance(data, dict):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data


def _set(data: Any, key: str, value: Any, text: str) -> None:
    *sections, last = key.split(".")
    for depth, section in enumerate(sections):
        if isinstance(data, dict) and data.get(section) is None:
            data[section] = {}
        if not isinstance(data, dict) or not isinstance(data[section], dict):
            where = ".".join(sections[: depth + 1])
            raise ConfigError(f"override {text!r}: {where!r} is not a section")
        data = data[section]
    if not isinstance(data, dict):
        raise ConfigError(f"override {text!r}: the config is not a mapping")
    data[last] = value
