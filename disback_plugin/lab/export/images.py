"""Students that are diffusers' U-Nets of images: a DDIM pipeline, a consistency pipeline."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ConsistencyModelPipeline, DDIMPipeline, DDIMScheduler

from disback_plugin.diffusion import ConsistencyDenoiser
from disback_plugin.errors import ConfigError
from disback_plugin.lab.export.base import noise_factor, timestep_of
from disback_plugin.lab.export.exporter import Exporter, Trial, diffusers_bytes
from disback_plugin.lab.sampling.images import to_bytes
from disback_plugin.lab.sampling.store import Array
from disback_plugin.pretrained.consistency import save_pipeline
from disback_plugin.pretrained.diffusers.files import make_repository

_STEP = """import torch
from diffusers import DDIMScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("THIS_FOLDER", subfolder="unet")
scheduler = DDIMScheduler.from_pretrained("THIS_FOLDER", subfolder="scheduler")
scheduler.set_timesteps(1)
x = {factor:.8g} * torch.randn(16, {channels}, {size}, {size})
with torch.no_grad():
    answer = unet(x, {t}{labels}).sample
images = scheduler.step(answer, {t}, x).pred_original_sample  # in [-1, 1]
"""
_CONSISTENCY = """from diffusers import ConsistencyModelPipeline

pipe = ConsistencyModelPipeline.from_pretrained("THIS_FOLDER")
pipe(batch_size=1, num_inference_steps=1{labels}).images[0].save("image.png")
"""


class ImageFolder(Exporter):
    """UNet2DModel and a DDIMScheduler that does not clip; at the last timestep a DDIMPipeline."""

    def write(self, folder: Path) -> None:
        repository = make_repository(self.base.location, self.base.options)
        _, settings = repository.schedule()
        scheduler = DDIMScheduler.from_config(
            settings, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
        )
        self.module.to(self.dtype)
        pipe: Any = DDIMPipeline(unet=self.module, scheduler=scheduler)
        pipe.save_pretrained(folder)
        self.module.to(torch.float32)

    def images(self, folder: Path, trial: Trial) -> Array:
        load = {"torch_dtype": torch.float32, "subfolder": "unet"}
        unet = diffusers.UNet2DModel.from_pretrained(folder, **load).to(trial.device)
        scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
        scheduler.set_timesteps(1)
        t, x = timestep_of(self.student), noise_factor(self.student) * trial.z.to(trial.device)
        labels = None if trial.labels is None else trial.labels.to(trial.device)
        with torch.no_grad():
            answer = unet(x, t, class_labels=labels).sample[:, : x.shape[1]]
        return to_bytes(scheduler.step(answer, t, x).pred_original_sample).cpu().numpy()

    def usage(self) -> str:
        config = self.module.config
        return _STEP.format(
            factor=noise_factor(self.student),
            channels=config.in_channels,
            size=config.sample_size,
            t=timestep_of(self.student),
            labels=", class_labels=labels" if config.num_class_embeds else "",
        )


class ConsistencyFolder(Exporter):
    """A ConsistencyModelPipeline, which asks at its highest noise level."""

    def write(self, folder: Path) -> None:
        denoiser = self.student.denoiser
        assert isinstance(denoiser, ConsistencyDenoiser)
        if self.student.generator.sigma != denoiser.sigma_max:
            raise ConfigError(
                f"the student is asked at sigma {self.student.generator.sigma}, and "
                f"ConsistencyModelPipeline asks at {denoiser.sigma_max}"
            )
        denoiser.network.to(self.dtype)
        save_pipeline(denoiser, folder)
        denoiser.network.to(torch.float32)

    def images(self, folder: Path, trial: Trial) -> Array:
        pipe: Any = ConsistencyModelPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        pipe.to(trial.device)
        labels = None if trial.labels is None else trial.labels.tolist()
        made = pipe(
            batch_size=len(trial.z),
            class_labels=labels,
            num_inference_steps=1,
            latents=trial.z,
            output_type="np",
        ).images
        return diffusers_bytes(np.asarray(made))

    def usage(self) -> str:
        labels = ", class_labels=0" if self.module.config.num_class_embeds else ""
        return _CONSISTENCY.format(labels=labels)
