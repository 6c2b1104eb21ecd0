"""Students of our own runs: sampled as they were trained to be asked, and exported."""

from pathlib import Path

import numpy as np
import pytest
import torch

from disback_plugin.cli import main
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.evaluation.run_students import StudentImages
from disback_plugin.lab.sampling import Asked, find_samples, open_student
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.run_folder import read_config
from disback_plugin.pretrained import load_denoiser
from tests.lab.sampling.conftest import expected_bytes
from tests.lab.trainer.checkpoint_cases import settings

SHORT = ("distill.num_steps=4", "evaluation.every=4")
OWN_TEACHER = (
    "teacher={denoiser: {kind: edm}, network: {kind: song-unet, channels: 8, multipliers: [1],"
    " num_blocks: 1}, training: {num_steps: 2, batch_size: 4}, num_sampling_steps: 2}"
)


@pytest.fixture(scope="module")
def runs(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment a folder, each with a student that was trained for four steps."""
    root = tmp_path_factory.mktemp("runs")
    for name, case, *more in (
        ("edm", "edm"),
        ("sdxl", "sdxl", "student.noise=unit", "distill.student_lr=1e-2"),
        ("own", "edm", OWN_TEACHER),
    ):
        run_experiment(settings(case, files, *SHORT, *more), root / name, ["fixed"])
    return root


def run_of(runs: Path, name: str) -> str:
    return f"run:{runs / name}/runs/fixed-seed0"


def test_a_run_is_sampled_at_the_level_that_it_was_trained_at(runs: Path, tmp_path: Path) -> None:
    command = ["sample", f"{run_of(runs, 'edm')}/student", "--seeds", "0-1", "--device", "cpu"]
    assert main([*command, "--labels", "3", "--out", str(tmp_path / "out.npz")]) == 0
    denoiser = load_denoiser(run_of(runs, "edm"))
    z = [torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    with torch.no_grad():
        x0 = denoiser(80 * torch.stack(z), torch.full((2,), 80.0), torch.full((2,), 3))
    found = np.load(tmp_path / "out.npz")["arr_0"]
    assert np.array_equal(found, expected_bytes(x0).numpy())
    samples = find_samples(tmp_path / "out.npz")
    assert samples is not None
    assert (samples.student.sigma, samples.labels) == (80.0, 3)


@pytest.mark.parametrize(
    ("name", "form", "again"),
    [
        ("edm", "safetensors", ["safetensors:OUT/student.safetensors"]),
        ("own", "safetensors", ["safetensors:OUT/student.safetensors"]),
        ("sdxl", "bin", ["weights:OUT/student_unet.bin", "base=diffusers:FILES/sdxl"]),
        ("sdxl", "diffusers", ["diffusers:OUT"]),
    ],
)
def test_an_exported_run_makes_its_images(
    name: str, form: str, again: list[str], runs: Path, files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(["export", run_of(runs, name), "--as", form, "--out", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert "Arm `fixed`, seed 0, 4 steps; all settings:" in card
    assert "num_accumulation_steps: 1" in card
    words = [word.replace("OUT", str(out)).replace("FILES", str(files)) for word in again]
    digests = []
    for spec, place in (([run_of(runs, name)], "run.zip"), (words, "export.zip")):
        command = ["sample", *spec, "--seeds", "3-5", "--grid", "0"]
        command += ["--prompts", str(files / "prompts.txt")] if name == "sdxl" else []
        assert main([*command, "--out", str(tmp_path / place)]) == 0
        samples = find_samples(tmp_path / place)
        assert samples is not None
        digests.append(samples.images_sha256)
    assert digests[0] == digests[1]


def test_an_experiment_is_no_run_and_a_run_says_itself_how_it_is_asked(runs: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is an experiment: give one of .*fixed-seed0"):
        open_student(f"run:{runs}/edm", {})
    with pytest.raises(ConfigError, match="knows how its student is asked: leave that out"):
        open_student(run_of(runs, "edm"), {}, Asked(sigma=1.0))


def test_curves_measure_the_images_that_disback_sample_makes(
    runs: Path, files: Path, tmp_path: Path
) -> None:
    out, prompts = runs / "sdxl", files / "prompts.txt"
    experiment = Experiment(read_config(out), out)
    cpu, batch = torch.device("cpu"), 5
    made = StudentImages(experiment, False, cpu, prompts).of(
        out / "runs" / "fixed-seed0" / "student.safetensors", batch
    )
    command = ["sample", run_of(runs, "sdxl"), "--seeds", f"0-{batch - 1}", "--device", "cpu"]
    command += ["--prompts", str(prompts), "--batch", str(batch)]
    assert main([*command, "--out", str(tmp_path / "out.npz")]) == 0
    expected = np.load(tmp_path / "out.npz")["arr_0"]
    found = np.stack([made.load(number) for number in range(batch)])
    assert np.array_equal(found.transpose(0, 2, 3, 1), expected)
    assert made.said == {"prompts": find_samples(tmp_path / "out.npz").prompts.model_dump()}  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="takes prompts: give --prompts"):
        StudentImages(experiment, False, cpu, None)
