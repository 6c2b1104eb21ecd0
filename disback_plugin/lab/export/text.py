"""Students of Stable Diffusion and SDXL: a pipeline, bare weights as DMD2 publishes, a LoRA."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, LCMScheduler
from safetensors.torch import load_file

from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.files import write_tensors
from disback_plugin.lab.export.base import noise_factor, timestep_of
from disback_plugin.lab.export.exporter import (
    Exporter,
    Trial,
    diffusers_bytes,
    round_weights,
    tensors_in,
)
from disback_plugin.lab.sampling.store import Array
from disback_plugin.lab.trainer.run_format import lora_of_run
from disback_plugin.pretrained.diffusers.files import DTYPES
from disback_plugin.pretrained.spec import split_spec
from disback_plugin.pretrained.weights.lora import TrainedLoRA, has_lora, peft_config, split_lora
from disback_plugin.pretrained.weights.opening import base_of, needed_alpha
from disback_plugin.pretrained.weights.reading import student_tensors

LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers' own name
_CALL = """
image = pipe("a photo of a cat", num_inference_steps=1, guidance_scale=0, timesteps=[{t}]{more})
image.images[0].save("cat.png")
"""
_LATENTS = """
# trained on noise of its own level: diffusers would make noise of variance 1
latents = {factor:.8f} * torch.randn({shape})"""


class OfPipeline(Exporter):
    """Asks as DMD2's snippet does: LCMScheduler, one step, no guidance.

    part: of the pipeline, that is the student. schedule: the scheduler's class, for snippets.
    """

    part: ClassVar = "unet"
    schedule: ClassVar = "LCMScheduler"

    def pipeline(self, location: str, **parts: Any) -> Any:
        """The pipeline at a location, in float32, as its users open it."""
        if getattr(self.module.config, "addition_embed_type", None) == "text_time":
            parts["add_watermarker"] = False
        pipe = DiffusionPipeline.from_pretrained(location, torch_dtype=torch.float32, **parts)
        pipe.scheduler = self.scheduler(pipe)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def scheduler(self, pipe: Any) -> Any:
        """What takes the pipeline's one step."""
        return LCMScheduler.from_config(pipe.scheduler.config, clip_sample=False)

    def schedule_call(self) -> str:
        """How a user makes it."""
        return ".from_config(pipe.scheduler.config)"

    def base_pipeline(self, **parts: Any) -> Any:
        """That of the base, of safetensors only, with `parts` in place of its own."""
        pipe = self.pipeline(self.base.location, use_safetensors=True, **self.base.hub, **parts)
        for name, part in parts.items():  # Wan's, whose parts are optional, has left them out
            setattr(pipe, name, part)
        return pipe

    def ask(self, pipe: Any, trial: Trial) -> Array:
        """The pipeline's images of this noise, one at a time."""
        pipe.to(trial.device)
        made = [
            pipe(
                prompt=prompt,
                num_inference_steps=1,
                guidance_scale=0,
                timesteps=[timestep_of(self.student)],
                latents=noise_factor(self.student) * z[None].to(trial.device),
                output_type="np",
            ).images
            for z, prompt in zip(trial.z, trial.prompts, strict=True)
        ]
        return diffusers_bytes(np.concatenate(made))

    def call(self) -> str:
        """The end of every snippet."""
        factor, before, more = noise_factor(self.student), "", ""
        if abs(factor - 1) > 1e-6:
            config = self.module.config
            shape = (1, config.in_channels, config.sample_size, config.sample_size)
            before, more = _LATENTS.format(factor=factor, shape=shape), ", latents=latents"
        return before + _CALL.format(t=timestep_of(self.student), more=more)

    @property
    def base_name(self) -> str:
        """The base, for snippets: a repository's name, else a placeholder for its folder."""
        here = Path(self.base.location).exists()
        return Path(self.base.location).name if here else self.base.location


class TextPipeline(OfPipeline):
    """A folder for `DiffusionPipeline.from_pretrained`, with the base's encoders and VAE."""

    def write(self, folder: Path) -> None:
        pipe = self.base_pipeline(**{self.part: self.module})
        pipe.to(self.dtype)
        pipe.save_pretrained(folder, safe_serialization=True)
        self.module.to(torch.float32)

    def images(self, folder: Path, trial: Trial) -> Array:
        pipe = self.pipeline(str(folder))
        own, found = tensors_in(self.module, torch.float32), getattr(pipe, self.part).state_dict()
        if other := [name for name in found if not torch.equal(found[name], own[name])]:
            raise CheckpointError(f"its {self.part} has other weights, {len(other)} of {len(own)}")
        return self.ask(pipe, trial)

    def usage(self) -> str:
        return (
            "import torch\nfrom diffusers import DiffusionPipeline\n\n"
            f'pipe = DiffusionPipeline.from_pretrained("THIS_FOLDER")\n{self.call().lstrip()}'
        )


class TextWeights(OfPipeline):
    """The U-Net's state dict alone, as `dmd2_sdxl_1step_unet_fp16.bin` is."""

    files: ClassVar = ("student_unet.bin",)

    def write(self, folder: Path) -> None:
        torch.save(tensors_in(self.module, self.dtype), folder / self.files[0])

    def images(self, folder: Path, trial: Trial) -> Array:
        unet = type(self.module).from_config(self.module.config)
        unet.load_state_dict(self.read(folder / self.files[0]), strict=True)
        return self.ask(self.base_pipeline(unet=unet.float().eval()), trial)

    def read(self, file: Path) -> dict[str, Any]:
        """The file, as its users read it."""
        return torch.load(file, map_location="cpu", weights_only=True)

    def usage(self) -> str:
        kind, name = type(self.module).__name__, self.files[0]
        load = f'load_file("{name}")'
        if name.endswith(".bin"):
            load = f'torch.load("{name}", weights_only=True)'
        return (
            f"import torch\nfrom diffusers import DiffusionPipeline, LCMScheduler, {kind}\n"
            "from safetensors.torch import load_file\n\n"
            f'base = "{self.base_name}"\n'
            f'unet = {kind}.from_config({kind}.load_config(base, subfolder="unet"))\n'
            f"unet.load_state_dict({load})\n"
            "pipe = DiffusionPipeline.from_pretrained(base, unet=unet)\n"
            f"pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config){self.call()}"
        )


class TextSafetensors(TextWeights):
    """The same as safetensors."""

    files: ClassVar = ("student_unet.safetensors",)

    def write(self, folder: Path) -> None:
        write_tensors(folder / self.files[0], tensors_in(self.module, self.dtype))

    def read(self, file: Path) -> dict[str, Any]:
        return load_file(file)


class TextLoRA(OfPipeline):
    """What a LoRA student adds to its base, with its scale in the header."""

    files: ClassVar = (LORA_FILE,)

    def write(self, folder: Path) -> None:
        lora = self.lora()
        pipeline = self.base_pipeline().__class__
        settings = peft_config(lora).to_dict()
        layers = {name: value.to("cpu", self.dtype) for name, value in lora.factors.items()}
        told = {name: _plain(value) for name, value in settings.items()}
        named = {f"{self.part}_lora_layers": layers, f"{self.part}_lora_adapter_metadata": told}
        pipeline.save_lora_weights(folder, **named)

    def lora(self) -> TrainedLoRA:
        """That of the student's file or run; ConfigError where it is no LoRA."""
        kind, location = split_spec(self.student.spec)
        if kind == "run" and (found := lora_of_run(location, self.student.options)):
            return found
        tensors = student_tensors(location) if kind == "weights" else {}
        if not has_lora(tensors):
            raise ConfigError(f"{self.student.spec} is no LoRA: choose another --as")
        alpha = base_of(location, self.student.options)[1]
        return split_lora(tensors, needed_alpha(alpha, location), location)[1]

    def images(self, folder: Path, trial: Trial) -> Array:
        pipe = self.base_pipeline()
        round_weights(getattr(pipe, self.part), DTYPES[self.base.options.get("dtype", "float32")])
        pipe.load_lora_weights(folder, weight_name=LORA_FILE)
        return self.ask(pipe, trial)

    def usage(self) -> str:
        return (
            f"import torch\nfrom diffusers import DiffusionPipeline, {self.schedule}\n\n"
            f'pipe = DiffusionPipeline.from_pretrained("{self.base_name}")\n'
            'pipe.load_lora_weights("THIS_FOLDER")\n'
            f"pipe.scheduler = {self.schedule}{self.schedule_call()}{self.call()}"
        )


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
