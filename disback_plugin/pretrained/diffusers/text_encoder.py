"""The frozen text encoders of a pipeline, asked as the pipeline itself asks them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from disback_plugin.diffusion import TextCondition
from disback_plugin.errors import ConfigError
from disback_plugin.pretrained.diffusers.files import (
    OPTIONS,
    TYPES,
    chosen_dtype,
    make_repository,
)
from disback_plugin.pretrained.diffusers.text_parts import FLOWS, text_pipeline
from disback_plugin.pretrained.formats import take_options


class PipelineTextEncoder:
    """Prompts -> TextCondition, of Stable Diffusion and SDXL, which cut them at 77 tokens."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> "PipelineTextEncoder":
        """This encoder, moved."""
        for name, part in self.pipeline.components.items():
            if name.startswith("text_encoder") and part is not None:
                part.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> TextCondition:
        """The embeddings of the prompts."""
        hidden, _, *pooled = self.pipeline.encode_prompt(
            list(prompts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return TextCondition(hidden, pooled[0] if pooled else None)

    @torch.no_grad()
    def negative(self, prompt: str | None) -> TextCondition:
        """What guidance leads away from; None is the pipeline's own: '' or, for SDXL, zeros."""
        answer = self.pipeline.encode_prompt(
            [""],
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=None if prompt is None else [prompt],
        )
        return TextCondition(answer[1], answer[3] if len(answer) == 4 else None)


def _sd3(pipeline: Any, prompts: list[str], **told: Any) -> TextCondition:
    hidden, _, pooled, _ = pipeline.encode_prompt(
        prompts, None, None, do_classifier_free_guidance=False, **told
    )
    return TextCondition(hidden, pooled)


def _flux(pipeline: Any, prompts: list[str], **told: Any) -> TextCondition:
    hidden, pooled, _ = pipeline.encode_prompt(prompts, **told)  # the ids are zeros
    return TextCondition(hidden, pooled)


def _qwen_image(pipeline: Any, prompts: list[str], **told: Any) -> TextCondition:
    hidden, mask = pipeline.encode_prompt(prompts, **told)  # None: all are of one length
    return TextCondition(hidden, mask=None if mask is None else mask.bool())


def _wan(pipeline: Any, prompts: list[str], **told: Any) -> TextCondition:
    hidden, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, **told)
    return TextCondition(hidden)


_FLOWS: dict[str, Callable[..., TextCondition]] = {
    "StableDiffusion3Pipeline": _sd3,
    "FluxPipeline": _flux,
    "QwenImagePipeline": _qwen_image,
    "WanPipeline": _wan,
}


class FlowTextEncoder(PipelineTextEncoder):
    """Of SD3, Flux, Qwen-Image and Wan, which cut prompts at `length` T5 or Qwen tokens.

    None: where the pipeline does unless it is told. What guidance leads away from is '' by default.
    """

    def __init__(self, pipeline: Any, length: int | None = None) -> None:
        super().__init__(pipeline)
        (family,) = (one for one in FLOWS.values() if one.pipeline == type(pipeline).__name__)
        self.length = family.prompt_length(length)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> TextCondition:
        """The embeddings of the prompts."""
        encode = _FLOWS[type(self.pipeline).__name__]
        told = {"device": self.device, "max_sequence_length": self.length}
        return encode(self.pipeline, list(prompts), **told)

    def negative(self, prompt: str | None) -> TextCondition:
        """The embeddings of the negative prompt."""
        return self([prompt or ""])


def open_text_encoder(location: str, options: Mapping[str, Any]) -> PipelineTextEncoder:
    """The text encoder of a pipeline; CheckpointError where there is none."""
    given = take_options(options, "diffusers", OPTIONS, TYPES)
    pipeline = text_pipeline(make_repository(location, options), chosen_dtype(given, "text_dtype"))
    length = given["max_sequence_length"]
    if type(pipeline).__name__ in _FLOWS:
        return FlowTextEncoder(pipeline, length)
    if length is not None:
        raise ConfigError(f"option 'max_sequence_length' is for transformers, {location} has a "
                          "U-Net")  # fmt: skip
    return PipelineTextEncoder(pipeline)
