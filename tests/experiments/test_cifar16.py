"""CIFAR-10 at 16x16, in miniature: images to LMDB, every arm compared, what recording would see."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from disback_plugin.cli import main
from disback_plugin.lab.config.experiment import load_config

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "cifar16"
SMALL = [
    *("teacher.network.channels=8", "teacher.network.multipliers=[1, 2]"),
    *("teacher.training.num_steps=3", "teacher.training.batch_size=16"),
    *("teacher.training.lr_schedule.num_warmup_steps=1", "teacher.num_sampling_steps=2"),
    *("distill.num_steps=12", "distill.batch_size=8", "distill.record_batch_size=4"),
    *("evaluation.every=6", "evaluation.num_samples=40", "logging.progress=false"),
    *("disback.schedule={name: fixed, interval: 1}", "disback.record={num_steps: 4, at: [1, 4]}"),
    "problem.classifier={num_epochs: 1, channels: 4, batch_size: 16, file: runs/classifier.st}",
]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with 100 pictures of 8x8 in runs/cifar16-lmdb, each class its own grey."""
    monkeypatch.chdir(tmp_path)
    rng, labels = np.random.default_rng(0), np.arange(100) % 10
    pixels = 20 * labels[:, None, None, None] + rng.integers(0, 20, (100, 32, 32, 3))
    np.savez("train.npz", images=pixels.astype(np.uint8), labels=labels)
    data = ["train.npz", "runs/cifar16-lmdb", "--resolution", "8"]
    assert main(["data", "lmdb", *data]) == 0


@pytest.mark.parametrize("name", ["edm", "ddpm"])
def test_a_config_is_named_as_its_file(name: str) -> None:
    assert load_config(EXPERIMENT / f"{name}.yaml").name == f"cifar16-{name}"


@pytest.mark.thorough
@pytest.mark.usefixtures("images")
def test_a_teacher_is_trained_once_and_compared_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(EXPERIMENT / "ddpm.yaml")
    assert main(["run", config, *SMALL, "--arm", "fixed", "--seeds", "1"]) == 0
    teacher = [*SMALL[4:], "teacher=run:runs/cifar16-ddpm"]
    teacher = [setting for setting in teacher if not setting.startswith("teacher.")]
    command = ["compare", config, *teacher, "--seeds", "2", "--arms", "fixed,disback"]
    assert main([*command, "--out", "runs/c16"]) == 0
    summary = json.loads(Path("runs/c16/summary.json").read_text())
    assert [(row["arm"], row["num_nodes"]) for row in summary["arms"]] == [
        ("disback", 2.0), ("fixed", None),
    ]  # fmt: skip
    capsys.readouterr()

    def script(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments, *teacher])
        runpy.run_path(str(EXPERIMENT / name), run_name="__main__")
        return capsys.readouterr().out

    told = script("pull.py", config)
    assert (told.count("common"), told.count("on data")) == (8, 7)
    table = script("trials.py", "node-low,away", config, "runs/c16", "2")
    assert [row.split(" | ")[1] for row in table.splitlines()[2:6]] == [
        "fixed", "disback", "away", "node-low",
    ]  # fmt: skip
