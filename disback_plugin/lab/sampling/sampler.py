"""A student with all that its images are made by, and the plan that says what they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import PartialState

from disback_plugin.distributed import on_main
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.data import PromptSet
from disback_plugin.lab.problems import Conditioner, as_they_are
from disback_plugin.lab.problems.prompts import PromptEncoder
from disback_plugin.lab.sampling.draws import SeededDraws
from disback_plugin.lab.sampling.images import make_images
from disback_plugin.lab.sampling.plan import LabelRule, Plan, SampledStudent, Seeds, used_prompts
from disback_plugin.lab.sampling.store import Array
from disback_plugin.lab.sampling.student import Precision, Student, set_precision
from disback_plugin.lab.trainer.teacher_files import fingerprint
from disback_plugin.pretrained import describe, load_decoder


@dataclass(frozen=True)
class Sampler:
    """On this process's device. decoder: of a latent model."""

    student: Student
    plan: Plan
    condition: Conditioner
    decoder: Any | None
    device: torch.device
    processes: int

    def images(
        self, batches: Sequence[Sequence[int]], size: int
    ) -> Iterator[tuple[Sequence[int], Array]]:
        """Seeds and their images (n, H, W, C), batch by batch; the network is given `size` rows."""
        draws = self.draws.batches(batches, size)
        generator = self.student.generator
        return make_images(generator, draws, self.device, self.condition, self.decoder)

    @property
    def draws(self) -> SeededDraws:
        """The noise and the label, or the number of the prompt, of every seed."""
        shape, prompts = describe(self.student.denoiser).data_shape, self.plan.prompts
        if prompts is not None:
            return SeededDraws(shape, prompts.count, "balanced")
        return SeededDraws(shape, self.plan.num_classes, self.plan.labels)


def make_sampler(
    student: Student,
    seeds: Seeds,
    labels: LabelRule | None = None,
    prompts: PromptSet | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision | None = None,
    text_dtype: str | None = None,
) -> Sampler:
    """The student on its device, and the plan; ConfigError where they do not fit each other.

    text_dtype: prompts are encoded in it, whatever the student's options say.
    """
    found = describe(student.denoiser)
    if student.takes_text != (prompts is not None):
        need = "takes prompts: give --prompts" if student.takes_text else "takes no prompts"
        raise ConfigError(f"{student.spec} {need}")
    if labels is not None and not found.num_classes:
        raise ConfigError(f"{student.spec} has no classes: leave --labels out")
    if not _is_image(found.data_shape, student.takes_text):
        raise CheckpointError(f"{student.spec} makes {found.data_shape}, no images")
    state = PartialState(cpu=device == "cpu")
    if device == "cuda" and state.device.type != "cuda":
        raise ConfigError("device cuda, but torch sees no CUDA device; use auto or cpu")
    decoder: Any = load_decoder(student.spec, **student.options) if student.takes_text else None
    plan = Plan(
        student=on_main(lambda: _sampled(student, decoder, precision), "hashing the student"),
        seeds=seeds,
        labels=_rule(labels, found.num_classes),
        num_classes=found.num_classes,
        prompts=None if prompts is None else used_prompts(prompts),
        shape=_image_shape(found.data_shape, decoder),
    )
    set_precision(student.denoiser, precision)
    student.generator.to(state.device)
    if decoder is not None:
        decoder.to(state.device)
    condition: Conditioner = as_they_are
    if prompts is not None:
        told = {} if text_dtype is None else {"text_dtype": text_dtype}
        condition = PromptEncoder(prompts, student.spec, {**student.options, **told})
    return Sampler(student, plan, condition, decoder, state.device, state.num_processes)


def _sampled(student: Student, decoder: Any, precision: Precision | None) -> SampledStudent:
    return SampledStudent(
        spec=student.spec,
        options=dict(student.options),
        description=str(describe(student.denoiser)),
        sha256=fingerprint(student.denoiser),
        vae_sha256=None if decoder is None else fingerprint(decoder),
        sigma=student.generator.sigma,
        timestep=student.timestep,
        noise=student.noise,
        precision=precision,
    )


def _rule(labels: LabelRule | None, num_classes: int) -> LabelRule | None:
    if not num_classes:
        return None
    return "random" if labels is None else labels


def _is_image(data_shape: tuple[int, ...], latents: bool) -> bool:
    """(C, H, W), of a video model (C, 1, H, W); without a decoder C is 1 or 3."""
    channels, *frames = data_shape[:-2] or (0,)
    return frames in ([], [1]) and (latents or channels in (1, 3))


def _image_shape(data_shape: tuple[int, ...], decoder: Any) -> tuple[int, int, int]:
    channels, (height, width) = data_shape[0], data_shape[-2:]
    if decoder is None:
        return height, width, channels
    return height * decoder.factor, width * decoder.factor, decoder.channels
