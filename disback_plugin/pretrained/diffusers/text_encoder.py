"""The frozen text encoders of a Stable Diffusion pipeline, asked as the pipeline asks them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from disback_plugin.diffusion import TextCondition
from disback_plugin.pretrained.diffusers.files import make_repository


class PipelineTextEncoder:
    """Prompts -> TextCondition. SDXL has two encoders, and pooled embeddings besides."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> "PipelineTextEncoder":
        """This encoder, moved."""
        self.pipeline.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> TextCondition:
        """The embeddings of the prompts, which the pipeline cuts at 77 tokens."""
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


def open_text_encoder(location: str, options: Mapping[str, Any]) -> PipelineTextEncoder:
    """The text encoder of a pipeline; CheckpointError where there is none."""
    return PipelineTextEncoder(make_repository(location, options).text_pipeline())
