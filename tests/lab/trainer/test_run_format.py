"""Our own folders as checkpoints: a run's teacher, its student, and the teacher's file."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from disback_plugin.cli import main
from disback_plugin.diffusion import OneStepStudent
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.run_folder import read_config, write_run
from disback_plugin.pretrained import describe, load_denoiser
from tests.lab.trainer.conftest import same_bits, tiny_config

STUDENT = "student={kind: denoiser, sigma: 20.0}"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "out"
    run_experiment(tiny_config(STUDENT), out, ["fixed"])
    return out


def test_a_runs_teacher_is_loaded_from_its_folder_or_its_file(out: Path, tmp_path: Path) -> None:
    config = read_config(out)
    teacher = Experiment(config, out).teacher
    alone = shutil.copy(out / "teacher" / "teacher.safetensors", tmp_path / "any-name")
    for spec in (f"run:{out}", f"safetensors:{alone}", f"{alone}", f"{out}"):
        loaded = load_denoiser(spec)
        assert same_bits(loaded.state_dict(), teacher.state_dict())
        x, sigma = torch.randn(4, 2), torch.tensor([0.01, 0.1, 1.0, 10.0])
        assert torch.equal(loaded(x, sigma), teacher(x, sigma))
    assert str(describe(load_denoiser(f"run:{out}"))) == (
        "run: the teacher, averaged weights of teacher/teacher.safetensors: residual-mlp, "
        "0.00049 M parameters, 2, unconditional, edm parametrisation, sigma 0.002 to 20"
    )


def test_inspect_tells_teacher_and_student_apart(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, told = f"run:{out}/runs/fixed-seed0", []
    for arguments in ([f"run:{out}"], [run], [run, "weights=raw"]):
        assert main(["inspect", *arguments]) == 0
        told.append(capsys.readouterr().out.split(": residual-mlp"))
    start, file = (
        "run: the student, asked once at sigma 20,",
        "runs/fixed-seed0/student.safetensors",
    )
    assert [role for role, _ in told] == [
        "run: the teacher, averaged weights of teacher/teacher.safetensors",
        f"{start} averaged (ema) weights of {file}",
        f"{start} last (raw) weights of {file}",
    ]
    assert len({what for _, what in told}) == 1


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_student_is_the_denoiser_that_the_run_ended_with(weights: str, out: Path) -> None:
    run = out / "runs" / "fixed-seed0"
    denoiser = load_denoiser(f"run:{run}", weights=weights)
    config = read_config(out)
    student = config.student.make(Experiment(config, out).teacher, (2,), 0)
    tensors = load_file(run / "student.safetensors")
    own = {k.removeprefix(f"{weights}."): v for k, v in tensors.items() if k.startswith(weights)}
    student.load_state_dict(own)
    z = torch.randn(5, 2)
    assert torch.equal(OneStepStudent(denoiser, 20.0)(z), student(z))
    assert not torch.equal(
        denoiser(z, torch.ones(5)), load_denoiser(f"run:{out}")(z, torch.ones(5))
    )


def test_what_cannot_be_loaded_from_a_run_is_said(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'weights' of a run is 'ema' or 'raw', not 'avg'"):
        load_denoiser(f"run:{out}/runs/fixed-seed0", weights="avg")
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    run = copy / "runs" / "fixed-seed0"
    write_run(read_config(copy), run, "fixed", 0)
    with pytest.raises(
        CheckpointError, match="is not complete yet: let `disback run --resume` end it"
    ):
        load_denoiser(f"run:{run}")
    (copy / "teacher" / "reference.json").unlink()
    with pytest.raises(CheckpointError, match="has no finished teacher yet"):
        load_denoiser(f"run:{copy}")
    config = (copy / "config.yaml").read_text()
    (copy / "teacher" / "reference.json").write_text("{}")
    (copy / "experiment.json").unlink()
    (copy / "config.yaml").write_text(
        config.replace("kind: denoiser\n  checkpoint: null\n  options: {}\n  sigma: 20.0\n"
                       "  timestep: null\n  noise: sigma", "kind: generator")
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="is a generator z -> x0, no denoiser"):
        load_denoiser(f"run:{run}")


def test_a_teacher_file_without_its_header_says_what_it_lacks(out: Path, tmp_path: Path) -> None:
    save_file(load_file(out / "teacher" / "teacher.safetensors"), tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="does not tell what network it is for"):
        load_denoiser(f"safetensors:{tmp_path}/bare.safetensors")
