"""An experiment that fails before anything is trained leaves nothing in the way of the next try."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from disback_plugin.cli import main
from disback_plugin.errors import CheckpointError, ConfigError, RunError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer import run_experiment, teacher
from tests.lab.trainer.conftest import tiny_config


def _from_file(finished: Path, *overrides: str) -> ExperimentConfig:
    file = finished / "teacher" / "teacher.safetensors"
    return tiny_config("teacher.training=null", f"teacher.file={file}", *overrides)


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("teacher.network.hidden=16", RunError, "does not fit the network of these settings"),
        (
            "student={kind: denoiser, sigma: 1, checkpoint: missing.pkl}",
            ConfigError,
            "no such file or folder: missing",
        ),
        (
            "student={kind: denoiser, timestep: 5}",
            ConfigError,
            "student.timestep needs a teacher with timesteps",
        ),
    ],
)
def test_what_does_not_fit_leaves_no_folder(
    override: str, error: type[Exception], message: str, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        run_experiment(_from_file(finished, override), tmp_path / "out", ["fixed"])
    assert list(tmp_path.iterdir()) == []


def test_a_student_that_does_not_fit_is_found_before_the_teacher_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "TeacherJob", None)  # training would be another error
    config = tiny_config("student={kind: denoiser, timestep: 5}")
    with pytest.raises(ConfigError, match="needs a teacher with timesteps"):
        run_experiment(config, tmp_path / "out", ["fixed"])
    assert list(tmp_path.iterdir()) == []


def test_the_command_works_at_the_next_try(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "tiny.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(_from_file(finished).model_dump(mode="json")))
    run = ["run", str(config), "--arm", "fixed", "--out", str(out)]
    assert main([*run, "teacher.network.hidden=16"]) == 2
    assert "does not fit the network of these settings" in capsys.readouterr().err
    assert not out.exists()
    assert main(run) == 0
    assert (out / "runs" / "fixed-seed0" / "student.safetensors").is_file()


def _fail_to_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise CheckpointError("cannot sample")

    monkeypatch.setattr(teacher, "heun_sample", fail)


def test_a_teacher_that_cannot_be_sampled_leaves_nothing_and_nothing_of_others_is_touched(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_to_sample(monkeypatch)
    with pytest.raises(CheckpointError, match="cannot sample"):
        run_experiment(_from_file(finished), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        run_experiment(_from_file(finished), tmp_path)
    assert (tmp_path / "teacher" / "notes.txt").read_text() == "mine"


def test_what_was_trained_before_a_failure_is_kept_and_gone_on_with(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        _fail_to_sample(patch)
        with pytest.raises(CheckpointError, match="cannot sample"):
            run_experiment(config, out, arms=[])
    trained = (out / "teacher" / "metrics.jsonl").read_text()
    with pytest.raises(RunError, match=r"is not empty: resume it \(--resume\)"):
        run_experiment(config, out, arms=[])
    run_experiment(config, out, arms=[], resume=True)
    assert (out / "teacher" / "metrics.jsonl").read_text() == trained
    assert (out / "teacher" / "reference.json").is_file()
