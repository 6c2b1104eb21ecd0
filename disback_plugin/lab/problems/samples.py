"""What samples are judged against where there is no data: the teacher's own multi-step samples."""

from pathlib import Path

from torch import Tensor

from disback_plugin.errors import RunError
from disback_plugin.files import read_tensors
from disback_plugin.lab.metrics import energy_distance


def samples_file(folder: Path) -> Path:
    """Where the teacher's samples are, in its folder."""
    return folder / "samples.safetensors"


def read_samples(file: Path) -> Tensor:
    """The teacher's samples (n, *data); RunError where the file does not hold any."""
    tensors, _ = read_tensors(file, RunError)
    if "samples" not in tensors:
        raise RunError(f"{file} has no tensor 'samples'")
    return tensors["samples"]


class SamplesEvaluator:
    """energy_distance to the samples in a file, which need not be there before the first call.

    The file holds the teacher's multi-step samples.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, samples: Tensor) -> dict[str, float]:
        return {"energy_distance": energy_distance(samples, read_samples(self.file))}
