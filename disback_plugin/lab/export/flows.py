"""Students of rectified flows: a folder for SD3's, Flux's, Qwen-Image's or Wan's own pipeline."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from disback_plugin.diffusion import FlowDenoiser
from disback_plugin.errors import ConfigError
from disback_plugin.lab.export.base import noise_factor
from disback_plugin.lab.export.exporter import Trial, diffusers_bytes
from disback_plugin.lab.export.text import OfPipeline, TextLoRA, TextPipeline
from disback_plugin.lab.sampling.store import Array
from disback_plugin.lab.sampling.student import StatedOptions
from disback_plugin.pretrained import describe
from disback_plugin.pretrained.diffusers.flow_models import (
    FluxNetwork,
    PackedNetwork,
    QwenImageNetwork,
    packed,
)
from disback_plugin.pretrained.diffusers.text_models import VAE_FACTOR

_CALL = """
image = pipe("a photo of a cat", {told})
image.{first}.save("cat.png")
"""
_LATENTS = """
# trained on noise of its own level: the pipeline would make noise of variance 1
latents = {factor:.8f} * torch.randn({shape})"""
_PACKED = """
latents = pipe._pack_latents(latents, *latents.shape)"""


class _OfFlow(OfPipeline):
    """Asked for one Euler step from the student's t to 0, at the size that it was trained at."""

    part: ClassVar = "transformer"
    schedule: ClassVar = "FlowMatchEulerDiscreteScheduler"
    first: ClassVar = "images[0]"  # of what the pipeline answers
    in_snippets: ClassVar[Mapping[str, Any]] = {}  # what a user's call is told besides

    @property
    def options(self) -> StatedOptions:
        return StatedOptions(
            embedded_guidance=getattr(self._network, "embedded_guidance", None),
            max_sequence_length=self.base.options.get("max_sequence_length"),
            sample_size=describe(self.student.denoiser).data_shape[1:],
        )

    def scheduler(self, pipe: Any) -> Any:
        """FlowMatchEuler, whose shift `told` undoes.

        A shift by resolution is left out: one step has no schedule that it could change.
        """
        config = pipe.scheduler.config
        return FlowMatchEulerDiscreteScheduler.from_config(config, **self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "shift": self._flow.shift,
            "use_dynamic_shifting": False,
            "shift_terminal": None,
        }

    def schedule_call(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        return f".from_config(\n    pipe.scheduler.config, {told}\n)"

    def told(self) -> dict[str, Any]:
        """What the call is told besides prompt and latents."""
        t, shift = self._t, self._flow.shift
        return {**self._size_and_guidance(), "sigmas": [t / (shift - (shift - 1) * t)]}

    def ask(self, pipe: Any, trial: Trial) -> Array:
        pipe.to(trial.device)
        made = []
        for z, prompt in zip(trial.z, trial.prompts, strict=True):
            latents = noise_factor(self.student) * z[None].to(trial.device)
            latents = packed(latents) if self._is_packed else latents
            answer = pipe(prompt=prompt, latents=latents, output_type="np", **self.told())
            made.append(self.images_in(answer))
        return diffusers_bytes(np.concatenate(made))

    def images_in(self, answer: Any) -> np.ndarray[Any, Any]:
        """The images (1, H, W, 3) that the pipeline answered with."""
        return answer.images

    def call(self) -> str:
        factor, before = noise_factor(self.student), ""
        told = {**self.told(), **self.in_snippets}
        words = [f"{name}={value!r}" for name, value in told.items()]
        if abs(factor - 1) > 1e-6:
            shape = (1, *describe(self.student.denoiser).data_shape)
            before = _LATENTS.format(factor=factor, shape=shape)
            before += _PACKED if self._is_packed else ""
            words.append("latents=latents")
        return before + _CALL.format(told=", ".join(words), first=self.first)

    def _size_and_guidance(self) -> dict[str, Any]:
        shape = describe(self.student.denoiser).data_shape
        height, width = (VAE_FACTOR * size for size in shape[-2:])
        told: dict[str, Any] = {"num_inference_steps": 1, "height": height, "width": width}
        if isinstance(self._network, FluxNetwork):
            embedded = self.options.embedded_guidance
            told |= {} if embedded is None else {"guidance_scale": embedded}
        else:
            is_qwen = isinstance(self._network, QwenImageNetwork)
            told["true_cfg_scale" if is_qwen else "guidance_scale"] = 1.0
        if length := self.options.max_sequence_length:
            told["max_sequence_length"] = length
        return told

    @property
    def _flow(self) -> FlowDenoiser:
        denoiser = self.student.denoiser
        assert isinstance(denoiser, FlowDenoiser)
        return denoiser

    @property
    def _t(self) -> float:
        sigma = self.student.generator.sigma
        return sigma / (1 + sigma)

    @property
    def _network(self) -> Any:
        """What is around the transformer, within the guidance that a student does not have."""
        inner = self._flow.network
        return getattr(inner, "network", inner)

    @property
    def _is_packed(self) -> bool:
        return isinstance(self._network, PackedNetwork)


class _OfWan(_OfFlow):
    """Asked for a video of one frame; its pipeline's call is told no noise levels."""

    schedule: ClassVar = "DPMSolverMultistepScheduler"
    first: ClassVar = "frames[0][0]"
    in_snippets: ClassVar = {"output_type": "pil"}

    def scheduler(self, pipe: Any) -> Any:
        """DPM-Solver, unshifted: of those that Wan's pipeline takes, its one step begins at 999."""
        last = self._flow.num_timesteps - 1
        if abs(self._t * self._flow.num_timesteps - last) > 1e-6:
            raise ConfigError(
                f"the student is asked at sigma {self.student.generator.sigma}, and WanPipeline "
                f"asks for its one step at timestep {last} only"
            )
        return DPMSolverMultistepScheduler(**self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "num_train_timesteps": self._flow.num_timesteps,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "flow_shift": 1.0,
            "final_sigmas_type": "zero",
        }

    def schedule_call(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        return f"(\n    {told}\n)"

    def told(self) -> dict[str, Any]:
        return {**self._size_and_guidance(), "num_frames": 1}

    def images_in(self, answer: Any) -> np.ndarray[Any, Any]:
        return answer.frames[:, 0]


class FlowPipeline(_OfFlow, TextPipeline):
    """A folder with the base's encoders and VAE."""


class FlowLoRA(_OfFlow, TextLoRA):
    """What a LoRA student adds to its base's transformer."""


class WanPipeline(_OfWan, TextPipeline):
    """A folder with the base's encoder and VAE."""


class WanLoRA(_OfWan, TextLoRA):
    """What a LoRA student adds to its base's transformer."""
