"""What a run resumes from, a spec names or a report shows is what was written, or an error."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from disback_plugin.cli import main
from disback_plugin.errors import DisBackError, RunError
from disback_plugin.lab.report import build_report
from disback_plugin.lab.trainer import run, run_experiment
from disback_plugin.lab.trainer.checkpoint import CheckpointFolder
from disback_plugin.lab.trainer.run_folder import lock
from disback_plugin.pretrained import load_denoiser
from tests.lab.trainer.conftest import same_bits, tensors, tiny_config

RUN = "runs/disback-seed0"
STUDENT = "student={kind: denoiser, sigma: 20.0}"


def _resume(out: Path) -> None:
    run_experiment(tiny_config(STUDENT), out, ["disback"], resume=True)


def _load_student(out: Path) -> None:
    load_denoiser(f"run:{out}/{RUN}")


def _load_teacher(out: Path) -> None:
    load_denoiser(f"run:{out}")


def _report(out: Path) -> None:
    build_report([out], out)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("complete") / "out"
    run_experiment(tiny_config(STUDENT), out, ["disback"])
    return out


@pytest.fixture
def out(complete: Path, tmp_path: Path) -> Path:
    """A complete run, as somebody copied it."""
    shutil.copytree(complete, tmp_path / "out")
    return tmp_path / "out"


def _stop_at(out: Path, step: int) -> None:
    """Make it the run that was killed after a checkpoint."""
    (out / RUN / "run.json").unlink()
    for folder in (out / RUN / "checkpoints").glob("step_*"):
        if folder.name != f"step_{step:06d}":
            shutil.rmtree(folder)


def _flip(file: Path, at: float = 0.99) -> None:
    data = bytearray(file.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    file.write_bytes(data)


VERIFIED = [
    (_resume, "teacher/teacher.safetensors"),
    (_resume, "teacher/samples.safetensors"),
    (_resume, "teacher/reference.json"),
    (_resume, f"{RUN}/checkpoints/step_000012/manifest.json"),
    (_resume, f"{RUN}/checkpoints/step_000012/state.json"),
    (_resume, f"{RUN}/checkpoints/step_000012/student_ema.safetensors"),
    (_load_teacher, "teacher/teacher.safetensors"),
    (_load_student, f"{RUN}/student.safetensors"),
    (_load_student, f"{RUN}/run.json"),
    (_report, f"{RUN}/run.json"),
    (_report, f"{RUN}/metrics.jsonl"),
    (_report, "teacher/reference.json"),
    (_report, "teacher/samples.safetensors"),
]


@pytest.mark.parametrize(("use", "name"), VERIFIED)
def test_a_flipped_bit_is_an_error_that_names_the_file(
    use: Callable[[Path], None], name: str, out: Path
) -> None:
    if use is _resume:
        _stop_at(out, 12)
    _flip(out / name, 0.6)
    with pytest.raises(RunError, match=rf"{name} is damaged \(.*; (restore|delete)"):
        use(out)


@pytest.mark.parametrize("at", [0.0, 0.3])
def test_a_flipped_bit_in_the_metrics_before_the_checkpoint_is_an_error(
    at: float, out: Path
) -> None:
    _stop_at(out, 12)
    _flip(out / RUN / "metrics.jsonl", at)
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged: its first \d+ bytes"):
        _resume(out)


def test_settings_that_changed_are_damage_and_not_other_settings(out: Path) -> None:
    config = out / "config.yaml"
    config.write_text(config.read_text().replace("student_lr: 0.001", "student_lr: 0.003"))
    for use in (_resume, _load_teacher):
        with pytest.raises(RunError, match=r"config.yaml is damaged, or was changed by hand"):
            use(out)
    config.write_bytes(b"\x80\x04")
    with pytest.raises(DisBackError, match=r"config.yaml"):
        _load_teacher(out)


def test_a_run_of_before_there_were_digests_resumes_and_is_the_same(
    out: Path, complete: Path
) -> None:
    _stop_at(out, 12)
    sealed = [file for file in out.rglob("*.json") if "sha256" in json.loads(file.read_text())]
    names = {"manifest.json", "reference.json", "experiment.json", "path.json"}
    assert {file.name for file in sealed} == names
    for file in sealed:
        said = json.loads(file.read_text())
        kept = {k: v for k, v in said.items() if k not in ("sha256", "config")}
        for name, key in (("reference.json", "files"), ("experiment.json", "teacher")):
            if file.name == name:
                del kept[key]
        file.write_text(json.dumps(kept))
    _resume(out)
    assert same_bits(tensors(out / RUN), tensors(complete / RUN))


def test_a_checkpoint_of_another_run_is_not_resumed(out: Path) -> None:
    """Saved while recording, it has no place in an arm that knows no session."""
    (out / RUN / "checkpoints").rename(out / "checkpoints")
    other = out / "runs" / "fixed-seed0"
    other.mkdir()
    (out / "checkpoints").rename(other / "checkpoints")
    with pytest.raises(RunError, match="was saved by disback-seed0, not by fixed-seed0"):
        run_experiment(tiny_config(STUDENT), out, ["fixed"], resume=True)
    (out / RUN).rename(out / "runs" / "disback-seed1")
    with pytest.raises(
        RunError, match=r"run.json is of disback-seed0, its folder is disback-seed1"
    ):
        run_experiment(tiny_config(STUDENT), out, ["disback"], [1], resume=True)


def test_a_teacher_of_another_experiment_is_not_taken(out: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run_experiment(tiny_config(STUDENT, "teacher.training.seed=7"), other, [])
    shutil.rmtree(out / "teacher")
    (other / "teacher").rename(out / "teacher")
    for arm in ("fixed", "disback"):
        with pytest.raises(RunError, match=r"teacher is the teacher of another .* start anew"):
            run_experiment(tiny_config(STUDENT), out, [arm], resume=True)
    with pytest.raises(RunError, match=r"teacher is the teacher of another experiment"):
        _load_teacher(out)


def test_a_student_of_another_run_is_not_loaded(out: Path) -> None:
    (out / RUN).rename(out / "runs" / "disback-seed1")
    with pytest.raises(RunError, match=r"run.json is of disback-seed0, its folder is disback-see"):
        load_denoiser(f"run:{out}/runs/disback-seed1")


def test_what_no_run_leaves_behind_is_not_deleted(out: Path) -> None:
    shutil.rmtree(out / RUN / "checkpoints")
    (out / RUN / "run.json").unlink()
    before = sorted(out.rglob("*"))
    with pytest.raises(RunError, match=r"holds path, .* but neither a checkpoint nor run.json"):
        _resume(out)
    assert sorted(out.rglob("*")) == before


def test_two_that_begin_at_once_do_not_delete_each_others_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with lock(out / "teacher"):
        monkeypatch.setattr(run, "check_folder", lambda *arguments: True)  # both saw it empty
        with pytest.raises(RunError, match="is being written by another process"):
            run_experiment(tiny_config(), out)
        assert (out / "config.yaml").is_file()
        assert (out / "teacher").is_dir()


def test_leftovers_of_killed_writes_are_gone_after_a_resume(out: Path) -> None:
    _stop_at(out, 12)
    folders = (out, out / "teacher", out / RUN, out / RUN / "samples")
    for folder in folders:
        (folder / ".tmp-1-x.json").write_text("half")
        (folder / ".tmp-1-x.safetensors").mkdir()
        (folder / ".tmp-1-x.safetensors" / ".tmpAbc123").write_text("half")
    _resume(out)
    assert [list(folder.glob(".tmp-*")) for folder in folders] == [[]] * 4


def test_a_write_that_fails_names_the_file_and_leaves_no_half_checkpoint(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    _stop_at(out, 12)
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config(STUDENT).to_yaml())
    command = ["run", str(config), "--out", str(out), "--arm", "disback", "--resume"]
    with monkeypatch.context() as patch:
        patch.setattr("disback_plugin.lab.trainer.checkpoint.write_json", full)
        assert main([*command, "--jobs", "1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("disback: error: ")
    assert "step_000016: No space left on device; make room, then give the same" in error
    assert [f.name for f in (out / RUN / "checkpoints").iterdir()] == ["step_000012"]
    assert CheckpointFolder(out / RUN / "checkpoints").latest() is not None


UNREADABLE = {
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "no text": lambda file: file.write_bytes(b"\x80\xff" * 40),
    "a list": lambda file: file.write_text("[1]"),
    "a number": lambda file: file.write_text("7"),
    "deep": lambda file: file.write_text("[" * 50_000),
}


@pytest.mark.parametrize("how", UNREADABLE)
@pytest.mark.parametrize(
    "name",
    [
        f"{RUN}/run.json",
        f"{RUN}/metrics.jsonl",
        f"{RUN}/path/path.json",
        f"{RUN}/samples/step_000016.safetensors",
        "teacher/reference.json",
        "experiment.json",
    ],
)
def test_a_report_over_what_cannot_be_read_is_one_message(
    name: str, how: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    UNREADABLE[how](out / name)
    assert main(["report", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("disback: error: ") or "disback: error: line" in error
    assert name in error
    assert "Traceback" not in error
