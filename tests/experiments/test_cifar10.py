"""The CIFAR-10 experiment in miniature: from JPEGs in an .npz to every arm, on a CPU."""

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from disback_plugin.cli import main
from disback_plugin.lab.config.experiment import load_config
from disback_plugin.lab.config.networks import make_teacher

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "cifar10"
CONFIGS = [EXPERIMENT / "ddpm.yaml", EXPERIMENT / "edm.yaml"]  # whose teacher is trained here
SMALL = [
    *("teacher.network.channels=8", "teacher.network.multipliers=[1, 2]"),
    *("teacher.network.num_blocks=1", "teacher.network.attn_resolutions=[]"),
    *("teacher.training.num_steps=3", "teacher.training.batch_size=16"),
    *("teacher.training.lr_schedule.num_warmup_steps=1", "teacher.num_sampling_steps=2"),
    *(
        "distill.num_steps=12",
        "distill.batch_size=8",
        "distill.record_batch_size=4",
        "evaluation.every=6",
    ),
    *("evaluation.num_samples=40", "disback.schedule={name: fixed, interval: 1}"),
    *("disback.record={num_steps: 4, at: [1, 4]}", "compile=false", "device=cpu", "num_threads=1"),
    *("logging.progress=false", 'mixed_precision="no"'),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures in 10 classes, each class of its own grey, as JPEGs end to end."""
    rng, files, labels = np.random.default_rng(0), [], np.arange(200, dtype=np.uint8) % 10
    for label in labels:
        pixels = np.full((32, 32, 3), 20 * label + 30, np.uint8) + rng.integers(
            0, 20, (32, 32, 3), dtype=np.uint8
        )
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    folder = tmp_path_factory.mktemp("cifar10")
    np.savez(
        folder / "train.npz",
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=labels,
        classes=np.array([str(number) for number in range(10)]),
    )
    command = ["data", "lmdb", str(folder / "train.npz"), str(folder / "lmdb")]
    assert main([*command, "--resolution", "8"]) == 0  # a sixteenth of the time
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["edm", "ddpm"])
def test_every_arm_runs_from_jpegs_on(name: str, data: Path, tmp_path: Path) -> None:
    config = EXPERIMENT / f"{name}.yaml"
    file, out = data / "classifier.safetensors", tmp_path / "out"
    classifier = f"{{num_epochs: 1, channels: 4, batch_size: 32, file: {file}}}"
    given = [*SMALL, f"problem.lmdb={data / 'lmdb'}", f"problem.classifier={classifier}"]
    assert main(["run", str(config), *given, "--out", str(out), "--jobs", "1"]) == 0
    for arm in ("fixed", "warm", "disback"):
        text = (out / "runs" / f"{arm}-seed0" / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        evaluated = [line for line in lines if line["kind"] == "eval"]
        assert [line["step"] for line in evaluated] == [0, 6, 12]
        assert all(line["metrics"].keys() == {"fd_pixel", "fd_classifier"} for line in evaluated)
        assert all(value > 0 for line in evaluated for value in line["metrics"].values())
        nodes = [line["index"] for line in lines if line["kind"] == "node"]
        assert nodes == ([] if arm == "fixed" else [1, 2])
    assert file.exists()  # shared by both settings


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_the_settings_are_those_that_the_readme_describes(config: Path) -> None:
    settings = load_config(config)
    assert settings.name == f"cifar10-{config.stem}"
    assert (settings.mixed_precision, settings.channels_last, settings.compile) == (
        *("bf16", True),
        True,
    )
    own = settings.teacher
    teacher = make_teacher(own.denoiser, own.network, (3, 32, 32), num_classes=10, seed=0)
    num = sum(value.numel() for value in teacher.parameters())
    assert f"{num / 1e6:.1f} M parameters" in (EXPERIMENT / "README.md").read_text()


def test_the_script_is_one_that_bash_reads() -> None:
    script = EXPERIMENT / "run_gpu.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.stat().st_mode & 0o111
