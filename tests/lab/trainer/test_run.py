"""A whole experiment: what lies on disk, what counts, and what a second start does."""

import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import yaml
from safetensors.torch import load_file

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer import RunInterrupted, run_experiment
from disback_plugin.lab.trainer.loop import Distillation, StepResult
from disback_plugin.lab.trainer.run_folder import lock, read_config
from disback_plugin.path import DegradationPath, encoding
from disback_plugin.sealed import digest, fingerprints
from tests.lab.trainer.conftest import lines, same_bits, tensors, tiny_config

NAMES = ("disback-seed0", "warm-seed0", "fixed-seed0")


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def _checkpoint(step: int, *names: str) -> set[str]:
    files = {"manifest.json", "state.json", *(f"{name}.safetensors" for name in names)}
    return {f"checkpoints/step_{step:06d}/{file}" for file in files}


def test_a_run_leaves_exactly_these_files(finished: Path) -> None:
    roles = ("student", "student_ema", "student_optimizer", "fake_score", "fake_score_optimizer")
    run = {".lock", "run.json", "metrics.jsonl", "student.safetensors"}
    run |= {f"samples/step_{step:06d}.safetensors" for step in (0, 8, 16)}
    run |= _checkpoint(12, *roles) | _checkpoint(16, *roles)
    path = {
        "path/path.json",
        "path/teacher.safetensors",
        *(f"path/node_000{i}.safetensors" for i in (1, 2, 3)),
    }
    roles = ("teacher", "teacher_ema", "teacher_optimizer")
    teacher = {".lock", "metrics.jsonl", "teacher.safetensors", "samples.safetensors"}
    teacher |= {"reference.json"} | _checkpoint(4, *roles) | _checkpoint(8, *roles)
    assert _files(finished) == {
        "experiment.json",
        "config.yaml",
        *(f"teacher/{name}" for name in teacher),
        *(f"runs/fixed-seed0/{name}" for name in run),
        *(f"runs/warm-seed0/{name}" for name in run | path),
        *(f"runs/disback-seed0/{name}" for name in run | path),
    }


def test_run_json_says_what_ran(finished: Path) -> None:
    run = finished / "runs" / "warm-seed0"
    said = json.loads((run / "run.json").read_text())
    assert said.pop("sha256") == digest(said)
    assert said == {
        "experiment": "tiny",
        "arm": "warm",
        "seed": 0,
        "num_steps": 16,
        "primary": "energy_distance",
        "thresholds": [],
        "status": "complete",
        "files": fingerprints(run, ["student.safetensors", "metrics.jsonl"]),
    }
    versions = json.loads((finished / "experiment.json").read_text())
    assert versions["torch"] == torch.__version__
    assert versions["device"] == "cpu"


def test_the_metrics_tell_the_story_of_the_arm(finished: Path) -> None:
    told = {name: lines(finished / "runs" / name / "metrics.jsonl") for name in NAMES}

    def steps(name: str, kind: str) -> list[tuple[int, int]]:
        key = "index" if kind == "node" else "node"
        return [(line["step"], line[key]) for line in told[name] if line["kind"] == kind]

    nodes = [(1, 1), (3, 2), (6, 3)]
    assert [steps(name, "node") for name in NAMES] == [nodes, nodes, []]
    assert [steps(name, "switch") for name in NAMES] == [[(6, 2), (9, 1), (12, 0)], [], []]
    train = [line for line in told["disback-seed0"] if line["kind"] == "train"]
    assert [line["step"] for line in train] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert [line["stage"] for line in train] == ["record"] * 3 + ["backtrack"] * 3 + ["teacher"] * 2
    assert [line["student_loss"] is None for line in train] == [True] * 3 + [False] * 5
    assert [line["student_lr"] for line in train] == [None] * 3 + [1e-3] * 5
    for name in NAMES:
        evaluated = [line for line in told[name] if line["kind"] == "eval"]
        assert [line["step"] for line in evaluated] == [0, 8, 16]
        assert set(evaluated[0]["metrics"]) == {
            "sliced_wasserstein",
            "energy_distance",
            "mode_coverage",
        }


def test_what_is_measured_counts_too(tmp_path: Path) -> None:
    config = tiny_config(
        "student.offset=[6,0]",
        "distill.batch_size=64",
        "disback.record={num_steps: 6, auto: {}}",
        "disback.schedule={name: adaptive, cap: 2}",
    )
    run_experiment(config, tmp_path / "out", arms=("disback",))
    told = lines(tmp_path / "out" / "runs" / "disback-seed0" / "metrics.jsonl")
    assert told[-1]["passes"] == 16 * 9 + 0.5  # one look: a quarter of a batch, two networks
    assert {line["student_lr"] for line in told if line["kind"] == "train"} == {1e-3}


def test_recording_counts_towards_the_budget_of_every_arm(finished: Path) -> None:
    last = [lines(finished / "runs" / name / "metrics.jsonl", "eval")[-1] for name in NAMES]
    assert [line["step"] for line in last] == [16, 16, 16]
    # 6 recording steps cost 4 passes each, full steps 9
    assert [line["passes"] for line in last] == [6 * 4 + 10 * 9, 6 * 4 + 10 * 9, 16 * 9]


def test_arms_are_paired_by_seed(finished: Path) -> None:
    paths = [DegradationPath.open(finished / "runs" / name / "path") for name in NAMES[:2]]
    assert [node.sha256 for node in paths[0]] == [node.sha256 for node in paths[1]]
    first = [lines(finished / "runs" / name / "metrics.jsonl", "eval")[0] for name in NAMES]
    assert first[0]["metrics"] == first[1]["metrics"] == first[2]["metrics"]
    ends = [tensors(finished / "runs" / name) for name in NAMES]
    assert not same_bits(ends[0], ends[1])
    assert not same_bits(ends[0], ends[2])


def test_samples_are_the_first_of_the_evaluation_and_move(finished: Path) -> None:
    folder = finished / "runs" / "fixed-seed0" / "samples"
    before, after = (load_file(folder / f"step_0000{n}.safetensors")["samples"] for n in ("00", 16))
    assert before.shape == (4, 2)
    assert not torch.equal(before, after)
    teacher = load_file(finished / "teacher" / "samples.safetensors")
    assert {name: value.shape for name, value in teacher.items()} == {
        "samples": (16, 2),
        "data": (16, 2),
    }


def test_a_finished_run_is_left_alone_and_says_so(finished: Path) -> None:
    before = {
        name: (finished / name).stat().st_mtime_ns
        for name in _files(finished / "runs")
        if (finished / name).exists()
    }
    results = run_experiment(tiny_config(), finished, resume=True)
    assert [result.was_complete for result in results] == [True] * 3
    assert str(results[0]) == "disback-seed0: was complete already, nothing to do"
    assert before == {name: (finished / name).stat().st_mtime_ns for name in before}


def test_resuming_can_add_a_seed(config: ExperimentConfig, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    results = run_experiment(config, tmp_path / "out", ["fixed"], [0, 1], resume=True)
    assert [(result.seed, result.was_complete) for result in results] == [(0, True), (1, False)]
    seeds = [tensors(tmp_path / "out" / "runs" / f"fixed-seed{seed}") for seed in (0, 1)]
    assert not same_bits(*seeds)


def test_a_folder_in_use_is_refused_without_resume(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty: resume it \(--resume\)"):
        run_experiment(config, tmp_path)
    with pytest.raises(RunError, match="holds no experiment"):
        run_experiment(config, tmp_path, resume=True)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_resuming_with_other_settings_names_them(finished: Path) -> None:
    other = tiny_config("distill.student_lr=0.5", "distill.num_steps=20")
    expected = r"distill.num_steps: 16 -> 20; distill.student_lr: 0.001 -> 0.5"
    with pytest.raises(RunError, match=expected):
        run_experiment(other, finished, resume=True)


def test_saved_settings_of_an_earlier_version_are_read_without_what_was_removed(
    tmp_path: Path,
) -> None:
    config = tiny_config("disback.schedule={name: adaptive, cap: 2}")
    settings = yaml.safe_load(config.to_yaml())
    settings["disback"]["schedule"]["stride"] = 3.0
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert read_config(tmp_path) == config


def test_an_unknown_arm_is_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown arm 'disbak'; did you mean 'disback'"):
        run_experiment(config, tmp_path / "out", ["disbak"])  # type: ignore[list-item]


def test_a_run_has_one_writer(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "runs" / "fixed-seed0" / "run.json").unlink()
    with (
        lock(out / "runs" / "fixed-seed0"),
        pytest.raises(RunError, match="fixed-seed0 is being written by another process"),
    ):
        run_experiment(tiny_config(), out, ["fixed"], resume=True)
    run_experiment(tiny_config(), out, ["fixed"], resume=True)


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=8 does not divide into 1 process x 3"):
        run_experiment(tiny_config("distill.num_accumulation_steps=3"), tmp_path / "out")


def test_loading_a_run_never_unpickles(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    run = out / "runs" / "disback-seed0"
    (run / "run.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000016")

    def refuse(*arguments: Any, **settings: Any) -> NoReturn:
        raise AssertionError("something was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(AssertionError, match="unpickled"):
        torch.load("anything")
    run_experiment(tiny_config(), out, ["disback"], resume=True)
    assert same_bits(tensors(run), tensors(finished / "runs" / "disback-seed0"))


def test_a_teacher_can_come_from_a_file(finished: Path, tmp_path: Path) -> None:
    file = finished / "teacher" / "teacher.safetensors"
    config = tiny_config("teacher.training=null", f"teacher.file={file}")
    run_experiment(config, tmp_path / "out", ["fixed"])
    copied = load_file(tmp_path / "out" / "teacher" / "teacher.safetensors")
    assert same_bits(copied, load_file(file))
    ends = [tensors(out / "runs" / "fixed-seed0") for out in (finished, tmp_path / "out")]
    assert same_bits(*ends)
    wider = tiny_config(
        "teacher.training=null", f"teacher.file={file}", "teacher.network.hidden=16"
    )
    with pytest.raises(RunError, match="does not fit the network of these settings"):
        run_experiment(wider, tmp_path / "wider", ["fixed"])


def test_an_unknown_state_of_the_teacher_is_not_taken_for_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_experiment(tiny_config(), out, arms=[])
    whole = load_file(out / "teacher" / "teacher.safetensors")
    for name in ("reference.json", "teacher.safetensors"):
        (out / "teacher" / name).unlink()
    shutil.rmtree(out / "teacher" / "checkpoints" / "step_000008")
    run_experiment(tiny_config(), out, arms=[], resume=True)
    assert same_bits(load_file(out / "teacher" / "teacher.safetensors"), whole)


def test_interrupted_is_no_user_error() -> None:
    assert not issubclass(RunInterrupted, ValueError)


def test_a_node_is_written_behind_the_steps_and_its_line_comes_when_it_is(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later, trained_on = threading.Event(), []
    order, train_step = encoding.file_order, Distillation.train_step

    def held(node: dict[str, Any]) -> list[str]:
        trained_on.append(later.wait(20))
        return order(node)

    def noted(loop: Distillation, step: int) -> StepResult:
        if step == 1:  # the first node was kept after step 0
            later.set()
        return train_step(loop, step)

    monkeypatch.setattr(encoding, "file_order", held)
    monkeypatch.setattr(Distillation, "train_step", noted)
    run_experiment(tiny_config(), tmp_path / "out", ["disback"])
    assert trained_on == [True, True, True]
    run = Path("runs") / "disback-seed0" / "metrics.jsonl"
    due, found = (lines(out / run, "node") for out in (finished, tmp_path / "out"))
    assert [line["step"] for line in found] == [1, 3, 6]
    assert [{**line, "seconds": 0} for line in found] == [{**line, "seconds": 0} for line in due]
