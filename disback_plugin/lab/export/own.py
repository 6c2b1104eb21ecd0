"""Students whose networks only we have: safetensors that `load_denoiser` opens."""

from pathlib import Path
from typing import ClassVar

from disback_plugin.diffusion import OneStepStudent
from disback_plugin.errors import CheckpointError
from disback_plugin.files import read_metadata, write_tensors
from disback_plugin.lab.export.exporter import Exporter, Trial, tensors_in
from disback_plugin.lab.sampling.images import to_bytes
from disback_plugin.lab.sampling.store import Array
from disback_plugin.lab.trainer.experiment import TEACHER, WEIGHTS
from disback_plugin.pretrained import load_denoiser
from disback_plugin.pretrained.edm.checkpoint import EDMCheckpoint, write_edm_safetensors
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle

_USAGE = """import torch
from disback_plugin import load_denoiser

student = load_denoiser("safetensors:{file}")
z = torch.randn(16, {shape})
sigma = {sigma!r}
images = student({scale!r} * z, torch.full((16,), sigma){labels})  # in [-1, 1]
"""


class OwnFile(Exporter):
    """The tensors, with the network's class and arguments in the header."""

    files: ClassVar = ("student.safetensors",)

    def write(self, folder: Path) -> None:
        file, tensors = folder / self.files[0], tensors_in(self.module, self.dtype)
        if self.base.kind == "edm-pkl":
            began = read_edm_pickle(self.base.location, self.base.options.get("key", "ema"))
            checkpoint = EDMCheckpoint(
                class_name=began.class_name, init_kwargs=began.init_kwargs, tensors=tensors
            )
            write_edm_safetensors(checkpoint, file)
            return
        began_as = Path(self.base.location)
        if self.base.kind == "run":
            began_as = began_as / TEACHER / WEIGHTS
        write_tensors(file, tensors, read_metadata(began_as, CheckpointError))

    def images(self, folder: Path, trial: Trial) -> Array:
        asked = self.student.generator
        denoiser = load_denoiser(f"safetensors:{folder / self.files[0]}").to(trial.device)
        again = OneStepStudent(denoiser, asked.sigma, asked.scale).requires_grad_(False)
        labels = None if trial.labels is None else trial.labels.to(trial.device)
        return to_bytes(again(trial.z.to(trial.device), labels)).cpu().numpy()

    def usage(self) -> str:
        asked, found = self.student.generator, self.student.denoiser.description
        assert found is not None
        return _USAGE.format(
            file=self.files[0],
            shape=", ".join(str(size) for size in found.data_shape),
            sigma=asked.sigma,
            scale=asked.scale,
            labels=", labels" if found.num_classes else "",
        )
