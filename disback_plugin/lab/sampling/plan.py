"""What is sampled, said so that whoever reads the images knows it: the content of samples.json."""

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.errors import ConfigError, DataError, count
from disback_plugin.lab.config.students import InputNoise
from disback_plugin.lab.data import PromptSet
from disback_plugin.sealed import read_sealed

FILE = "samples.json"
AGAIN = "sample again, into another place"
PIXELS = "(x * 127.5 + 128).clip(0, 255)"  # the rule from [-1, 1] to bytes, of EDM's generate.py
MAX_SEED = (1 << 32) - 1  # EDM takes seeds modulo 2^32
Form = Literal["png", "npz", "zip"]
LabelRule = Literal["random", "balanced"] | int
# options of a student that decide its images, and are no weights of it
_TOLD = (
    *("guidance_scale", "negative_prompt", "embedded_guidance"),
    *("max_sequence_length", "text_dtype", "lcm", "nearest_t"),
)
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


class Seeds(StrictModel):
    """Seeds, and the numbers of their images: first to last, both included."""

    first: int = Field(ge=0, le=MAX_SEED)
    last: int = Field(ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _check(self) -> "Seeds":
        if self.last < self.first:
            raise ValueError(f"seeds {self} run backwards")
        return self

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def all(self) -> range:
        """The seeds in order."""
        return range(self.first, self.last + 1)


def parse_seeds(text: str) -> Seeds:
    """`0-49999`, or a single seed; ConfigError."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"seeds are FIRST-LAST, such as 0-49999 (seen: {text!r})")
    return Seeds(first=int(found[1]), last=int(found[2] or found[1]))


def parse_labels(text: str) -> LabelRule:
    """`random`, `balanced` (seed modulo the number of classes) or the number of one class."""
    if text in ("random", "balanced"):
        return text  # type: ignore[return-value]
    if text.isdecimal():
        return int(text)
    raise ConfigError(f"labels are random, balanced or the number of a class (seen: {text!r})")


class SampledStudent(StrictModel):
    """Whose images these are. sha256: over all its tensors; vae_sha256: over its decoder's."""

    spec: str
    options: dict[str, Any]
    description: str
    sha256: str
    vae_sha256: str | None = None
    sigma: float
    timestep: int | None = None
    noise: InputNoise
    precision: Literal["fp16", "bf16"] | None = None  # None: as the checkpoint says


class UsedPrompts(StrictModel):
    """Seed i has prompt i modulo `count`; sha256: of the texts, one a line."""

    file: str
    count: int
    sha256: str


def used_prompts(prompts: PromptSet) -> UsedPrompts:
    """What is said of these prompts."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(f"{prompt}\n".encode())
    return UsedPrompts(file=prompts.name, count=len(prompts), sha256=digest.hexdigest())


class Plan(StrictModel):
    """The images to make. shape: (H, W, channels) of one; num_classes: 0 without class labels."""

    format: Literal["disback samples"] = "disback samples"
    version: Literal[1] = 1
    student: SampledStudent
    seeds: Seeds
    labels: LabelRule | None = None
    num_classes: int = 0
    prompts: UsedPrompts | None = None
    shape: tuple[int, int, int]
    pixels: str = PIXELS

    @model_validator(mode="after")
    def _check(self) -> "Plan":
        if isinstance(self.labels, int) and not 0 <= self.labels < self.num_classes:
            classes = count(self.num_classes, "class", "classes")
            raise ValueError(f"label {self.labels} is none of the student's {classes}")
        return self

    @property
    def num_images(self) -> int:
        """How many there are to be."""
        return len(self.seeds.all)

    def identity(self) -> dict[str, Any]:
        """What decides the images; not where the files lie."""
        student = self.student.model_dump(exclude={"spec", "options", "description"})
        prompts = self.prompts and self.prompts.model_dump(exclude={"file"})
        shared = set(Plan.model_fields) - {"student", "prompts"}
        rest = self.model_dump(mode="json", include=shared)
        told = {name: self.student.options.get(name) for name in _TOLD}
        return {**rest, "student": student, "prompts": prompts, "told": told}


class Samples(Plan):
    """samples.json of finished images.

    images_sha256: over the images' own SHA-256 (of their bytes, NHWC) in the order of seeds: the
    same in every form. made_with: batch size, processes, device, versions.
    """

    form: Form
    count: int
    images_sha256: str
    made_with: dict[str, Any]


def read_samples(file: Path) -> Samples:
    """What a samples.json says; DataError where it is missing, damaged or of something else."""
    return parse_samples(read_sealed(file, DataError, AGAIN), str(file))


def parse_samples(data: Any, source: str) -> Samples:
    """The settings in a samples.json, already unsealed; DataError."""
    try:
        return parse_settings(Samples, data, source)
    except ConfigError as error:
        raise DataError(f"{error}: not written by `disback sample`") from None


def difference(one: Plan, other: Plan) -> str | None:
    """The first setting in which two plans differ, in words; None where they make the same."""
    before, after = one.identity(), other.identity()
    for key in before:
        if before[key] != after[key]:
            return f"{key}: {before[key]}, now {after[key]}"
    return None
