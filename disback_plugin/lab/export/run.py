"""`disback export`: a student in another format, which is loaded again before it is said done."""

import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from disback_plugin.aside import built_aside
from disback_plugin.diffusion import ConsistencyDenoiser, FlowDenoiser
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.files import write_text
from disback_plugin.foreign_weights import translated
from disback_plugin.lab.data import PromptSet
from disback_plugin.lab.export.base import Base, base_of_student
from disback_plugin.lab.export.card import model_card
from disback_plugin.lab.export.exporter import Exporter, Trial, round_weights
from disback_plugin.lab.export.results import results_of
from disback_plugin.lab.sampling import Sampler, Seeds, Student, make_sampler
from disback_plugin.lab.sampling.student import STATEMENT, Statement
from disback_plugin.pretrained import describe
from disback_plugin.pretrained.image_unet import ImageUNet
from disback_plugin.sealed import write_sealed

Form = Literal["diffusers", "bin", "safetensors", "lora"]
FORMS: tuple[Form, ...] = get_args(Form)
DTYPES = {"float32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SEEDS = Seeds(first=0, last=1)  # of the images that are compared
PROMPTS = ("a photo of a cat", "a house in the snow")
TEXT_DTYPE = "float32"  # in which the pipelines encode the prompts that are compared
TOLERANCE = 1  # levels of 255: rounding halves up or to even
_HERE = "disback_plugin.lab.export"
# family of students -> form -> module and class; diffusers is imported where it is used
_EXPORTERS: Mapping[str, Mapping[Form, tuple[str, str]]] = {
    "Stable Diffusion": {
        "diffusers": (f"{_HERE}.text", "TextPipeline"),
        "bin": (f"{_HERE}.text", "TextWeights"),
        "safetensors": (f"{_HERE}.text", "TextSafetensors"),
        "lora": (f"{_HERE}.text", "TextLoRA"),
    },
    "rectified flows": {
        "diffusers": (f"{_HERE}.flows", "FlowPipeline"),
        "lora": (f"{_HERE}.flows", "FlowLoRA"),
    },
    "Wan": {
        "diffusers": (f"{_HERE}.flows", "WanPipeline"),
        "lora": (f"{_HERE}.flows", "WanLoRA"),
    },
    "consistency models": {"diffusers": (f"{_HERE}.images", "ConsistencyFolder")},
    "diffusers' image models": {"diffusers": (f"{_HERE}.images", "ImageFolder")},
    "EDM and our own networks": {"safetensors": (f"{_HERE}.own", "OwnFile")},
}


def export(
    student: Student,
    out: Path,
    form: Form,
    dtype: str = "float32",
    results: Sequence[Path] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> int:
    """Write the student into the folder `out`; returns by how many levels images differ at most.

    The folder is built aside and takes its place once images made from it, by the library that will
    load it, are those of `disback sample`. results: files of `disback eval`, for the model card
    (None: those beside the student). Raises ConfigError for a form that such a student does not
    have, results of another, and an `out` that holds files; CheckpointError where what was written
    makes other images.
    """
    exporter = make_exporter(student, base_of_student(student), form, DTYPES[dtype])
    numbers = results_of(student, results)
    with built_aside(out) as build:
        round_weights(student.denoiser, exporter.dtype)
        with translated(f"{student.spec} cannot be exported as {form}"):
            exporter.write(build)
        statement = Statement(files=exporter.files, asked=student.asked, options=exporter.options)
        write_sealed(build / STATEMENT, statement.model_dump(mode="json"))
        prompts = PromptSet("export", PROMPTS) if student.takes_text else None
        sampler = make_sampler(
            student, SEEDS, prompts=prompts, device=device, text_dtype=TEXT_DTYPE
        )
        with translated(f"the export of {student.spec} does not load again"):
            apart = _difference(exporter, sampler, build)
        if apart > TOLERANCE:
            raise CheckpointError(
                f"the export of {student.spec} as {form} makes other images than `disback sample` "
                f"(they differ by {apart} of 255 levels): nothing was written"
            )
        checked = _said(exporter, apart)
        card = model_card(out.resolve().name, exporter, sampler.plan.student, numbers, checked)
        write_text(build / "README.md", card)
    return apart


def make_exporter(student: Student, base: Base, form: Form, dtype: torch.dtype) -> Exporter:
    """What writes such a student in this form; ConfigError where nothing does."""
    family = _family(student)
    if form not in _EXPORTERS[family]:
        raise ConfigError(
            f"students of {family} are exported --as {' or '.join(_EXPORTERS[family])}, not {form}"
        )
    module, name = _EXPORTERS[family][form]
    kind: type[Exporter] = getattr(importlib.import_module(module), name)
    return kind(student, base, dtype)


def _family(student: Student) -> str:
    if student.takes_text and isinstance(student.denoiser, FlowDenoiser):
        is_wan = describe(student.denoiser).architecture == "WanTransformer3DModel"
        return "Wan" if is_wan else "rectified flows"
    if student.takes_text:
        return "Stable Diffusion"
    if isinstance(getattr(student.denoiser, "network", None), ImageUNet):
        consistent = isinstance(student.denoiser, ConsistencyDenoiser)
        return "consistency models" if consistent else "diffusers' image models"
    return "EDM and our own networks"


def _difference(exporter: Exporter, sampler: Sampler, build: Path) -> int:
    """Of the images of SEEDS, by the export and by `disback sample`, in levels."""
    seeds = list(SEEDS.all)
    ((_, expected),) = sampler.images([seeds], len(seeds))
    shape = expected.shape
    draw = sampler.draws.batch(seeds, len(seeds))
    labels = None if exporter.student.takes_text else draw.labels
    found = exporter.images(build, Trial(draw.z, labels, PROMPTS, sampler.device))
    if found.shape != shape:
        raise CheckpointError(f"its images are {found.shape}, not {shape}")
    return int(np.abs(found.astype(np.int16) - expected.astype(np.int16)).max())


def _said(exporter: Exporter, apart: int) -> str:
    student, library = exporter.student, "disback_plugin"
    if student.takes_text or isinstance(getattr(student.denoiser, "network", None), ImageUNet):
        library = f"diffusers {version('diffusers')}"
    trained = exporter.base.options.get("text_dtype", TEXT_DTYPE)
    encoded = f", with prompts encoded in {TEXT_DTYPE} by both, not in {trained}"
    return (
        f"Loaded again by {library}, the images of seeds {SEEDS} are those of `disback sample` "
        f"(they differ by {apart} of 255 levels at most{encoded if trained != TEXT_DTYPE else ''})."
    )
