"""Every checkpoint format as a teacher that is trained with, in all arms of the trainer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin.cli import main
from disback_plugin.errors import CheckpointError, ConfigError, RunError
from disback_plugin.lab.trainer import ARMS, run_experiment, teacher_files
from disback_plugin.path import DegradationPath
from disback_plugin.pretrained import describe, load_denoiser, load_text_encoder
from tests.lab.trainer.checkpoint_cases import PROMPTS, settings
from tests.lab.trainer.conftest import lines, same_bits, tensors
from tests.pretrained.files import write_edm_pickle
from tests.ranks import on_ranks
from tests.tiers import sample_of


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    sample_of("edm", rest=["sdxl", "edm alone", "cm from edm", "ddpm", "lcm", "sdxl on latents"]),
)
def test_every_format_trains_in_all_arms_and_resumes(
    name: str, files: Path, tmp_path: Path
) -> None:
    config, out = settings(name, files), tmp_path / "out"
    run_experiment(config, out)
    assert {file.name for file in (out / "teacher").iterdir()} == {
        *(".lock", "source.json", "samples.safetensors", "reference.json")
    }
    for arm in ARMS:
        told = lines(out / "runs" / f"{arm}-seed0" / "metrics.jsonl")
        switches = [(line["step"], line["node"]) for line in told if line["kind"] == "switch"]
        assert switches == ([(3, 2), (4, 1), (5, 0)] if arm == "disback" else [])
        nodes = [line for line in told if line["kind"] == "node"]
        assert len(nodes) == (0 if arm == "fixed" else 3)
        assert all(line["distance"] > 0 for line in nodes)
        values = [v for line in told if line["kind"] == "eval" for v in line["metrics"].values()]
        assert len(values) == 2
        assert all(0 <= value < float("inf") for value in values)
    path = DegradationPath.open(out / "runs" / "disback-seed0" / "path")
    assert len(path) == 3
    assert path.verify() == []
    resumed = tmp_path / "resumed"
    shutil.copytree(out, resumed)
    run = resumed / "runs" / "disback-seed0"
    (run / "run.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000007")
    run_experiment(config, resumed, ["disback"], resume=True)
    assert same_bits(tensors(run), tensors(out / "runs" / "disback-seed0"))


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        (
            "ddpm",
            "teacher=diffusers:{}/sd",
            "takes text needs problem kind 'prompts' or 'latents', not 'images'",
        ),
        ("sd", "teacher=diffusers:{}/ddpm", "'prompts' needs a teacher that takes text"),
        ("edm", "problem={kind: digits}", r"data has shape .1, 8, 8., the teacher's samples .3, 8"),
        ("edm", "student.checkpoint=diffusers:{}/sd", "makes samples of shape .4, 8, 8."),
        ("edm", "student.checkpoint=diffusers:{}/ddpm", "conditioned on 'none', the teacher on"),
    ],
)
def test_what_does_not_fit_each_other_is_refused(
    name: str, override: str, message: str, files: Path, tmp_path: Path
) -> None:
    changed = [override.replace("{}", str(files))]
    changed += ["evaluation.primary=fd_pixel"] if "digits" in override else []
    with pytest.raises(ConfigError, match=message):
        run_experiment(settings(name, files, *changed), tmp_path / "out", ["fixed"])
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_read_and_hashed_once_a_process(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"load_denoiser": 0, "fingerprint": 0}

    def count(name: str) -> Callable[..., Any]:
        work = getattr(teacher_files, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return work(*arguments, **options)

        return counted

    for name in counts:
        monkeypatch.setattr(teacher_files, name, count(name))
    config, out = settings("edm", files), tmp_path / "out"
    run_experiment(config, out, ["warm", "fixed"])  # read, checked, sampled, and two runs
    assert counts == {"load_denoiser": 1, "fingerprint": 1}
    run_experiment(config, out, ["warm", "fixed"], [0, 1], resume=True)
    assert counts == {"load_denoiser": 2, "fingerprint": 2}
    run_experiment(config, out, ["warm", "fixed"], [0, 1], resume=True)
    assert counts == {"load_denoiser": 2, "fingerprint": 2}  # nothing to do: nothing is read


def test_a_teacher_that_changed_is_not_resumed_with(files: Path, tmp_path: Path) -> None:
    copied = tmp_path / "teacher.pkl"
    shutil.copy(files / "edm.pkl", copied)
    config = settings("edm", files, f"teacher.checkpoint=edm-pkl:{copied}")
    run_experiment(config, tmp_path / "out", arms=[])
    write_edm_pickle(copied, "adm-both-labels")
    with pytest.raises(RunError, match="is not the teacher that .*out was started with"):
        run_experiment(config, tmp_path / "out", ["fixed"], resume=True)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("name", ["edm", "sd"])
def test_mixed_precision_trains(name: str, files: Path, tmp_path: Path) -> None:
    run_experiment(settings(name, files, "mixed_precision=bf16"), tmp_path / "out", ["disback"])
    final = tensors(tmp_path / "out/runs/disback-seed0")
    assert all(value.dtype == torch.float32 for value in final.values())
    assert all(torch.isfinite(value).all() for value in final.values())


def test_a_teacher_is_trained_on_images_from_an_lmdb(files: Path, tmp_path: Path) -> None:
    teacher = {
        "denoiser": {"kind": "edm"},
        "network": {"kind": "small-unet", "channels": 8, "multipliers": [1], "attention": False},
        "training": {"num_steps": 2, "batch_size": 4},
        "num_sampling_steps": 2,
    }
    config = settings("edm", files, f"teacher={json.dumps(teacher)}")
    run_experiment(config, tmp_path / "out", arms=[])
    reference = json.loads((tmp_path / "out/teacher/reference.json").read_text())
    assert reference["fd_pixel"] > 0
    assert describe(load_denoiser(f"run:{tmp_path}/out")).data_shape == (3, 8, 8)


def test_a_run_with_a_text_teacher_is_a_text_teacher(files: Path, tmp_path: Path) -> None:
    config = settings("sd", files)
    run_experiment(config, tmp_path / "out", arms=[])
    spec = f"run:{tmp_path}/out"
    cond = load_text_encoder(spec)(PROMPTS)
    x, sigma = torch.randn(3, 4, 8, 8), torch.full((3,), 2.0)
    assert config.teacher.checkpoint is not None
    theirs = load_denoiser(config.teacher.checkpoint, **config.teacher.options)
    assert torch.equal(load_denoiser(spec)(x, sigma, cond), theirs(x, sigma, cond))


def test_a_missing_file_leaves_no_folder_behind(files: Path, tmp_path: Path) -> None:
    for override in ("teacher=edm-pkl:missing.pkl", "student.checkpoint=cm:missing.pt"):
        with pytest.raises(CheckpointError, match="no such file or folder: missing"):
            run_experiment(settings("edm", files, override), tmp_path / "out", arms=[])
    assert not (tmp_path / "out").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["edm", "sd"])
def test_two_processes_train_like_one(name: str, files: Path, tmp_path: Path) -> None:
    """EDM's weights for augmentation labels get no gradient; prompts are no tensors."""
    config = settings(name, files, "distill.dropout=false")
    run_experiment(config, tmp_path / "one", ["disback"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    words = ["run", str(tmp_path / "config.yaml"), "--arm", "disback"]
    on_ranks(main, [*words, "--out", str(tmp_path / "two")])
    one, two = (tensors(tmp_path / folder / "runs/disback-seed0") for folder in ("one", "two"))
    assert one.keys() == two.keys()
    # Adam turns a gradient of rounding errors into whole steps: single weights may differ
    far = sum(int(((one[key] - two[key]).abs() > 1e-5).sum()) for key in one)
    assert far < 0.01 * sum(value.numel() for value in one.values())
