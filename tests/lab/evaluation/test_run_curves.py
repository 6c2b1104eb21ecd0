"""The students that a run keeps are measured and drawn: from training to curves."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.config.experiment import parse_config
from disback_plugin.lab.evaluation import run_curves
from disback_plugin.lab.evaluation.evaluate import Request
from disback_plugin.lab.evaluation.making import make_reference
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.networks import open_network
from disback_plugin.lab.evaluation.protocols import get_protocol
from disback_plugin.lab.evaluation.run_students import StudentImages, kept_students
from disback_plugin.lab.evaluation.samples import open_samples
from disback_plugin.lab.evaluation.session import Settings
from disback_plugin.lab.results.curves import Curve, CurvePoint
from disback_plugin.lab.results.runs import Run, read_runs
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.run_folder import read_config
from disback_plugin.sealed import read_json
from tests.lab.trainer.conftest import TINY

METRIC = "Frechet distance (pixels)"


@pytest.fixture(scope="module")
def out(lmdb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of the tiny experiment on images of 8x8, each with students at steps 6 and 12."""
    data = copy.deepcopy(TINY)
    data["problem"] = {"kind": "images", "lmdb": str(lmdb), "conditional": True}
    data["teacher"]["network"] = {"kind": "residual-mlp", "hidden": 8, "num_blocks": 1}
    data["student"] = {"kind": "denoiser", "sigma": 2.0}
    data["evaluation"] = {"every": 8, "num_samples": 20, "primary": "fd_pixel"}
    data["checkpoint"] = {"every": 8, "keep": 1, "keep_students": 6}
    folder = tmp_path_factory.mktemp("kept") / "out"
    run_experiment(parse_config(data, "tiny"), folder, arms=("fixed", "disback"))
    return folder


@pytest.fixture(scope="module")
def reference(lmdb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    network = open_network("inception-2015-12-05", None, "pixels")
    request = Request(protocol=get_protocol("edm"), network=network, smoke=True)
    place = Workplace(folder=folder / "work", device=torch.device("cpu"))
    make_reference(open_samples(lmdb), request, place, folder / "pixels.safetensors")
    return folder / "pixels.safetensors"


def settings(**more: object) -> Settings:
    return Settings(protocol="edm", features="pixels", smoke=True, device="cpu", **more)  # type: ignore[arg-type]


def test_a_run_keeps_its_students_with_what_they_cost(out: Path) -> None:
    folder = out / "runs" / "fixed-seed0"
    names = sorted(file.name for file in (folder / "students").iterdir())
    assert names == ["step_000006.safetensors", "step_000012.safetensors"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (train,) = [line for line in lines if line["kind"] == "train" and line["step"] == 12]
    with safe_open(folder / "students" / names[1], "pt") as stream:
        said = stream.metadata()
        kinds = {name.split(".")[0] for name in stream.keys()}  # noqa: SIM118
    assert (int(said["step"]), float(said["passes"])) == (12, train["passes"])
    assert kinds == {"ema", "raw"}
    assert len(list((folder / "checkpoints").iterdir())) == 1  # these are not kept


def test_students_are_every_nth_and_the_last(out: Path) -> None:
    (run,) = read_runs([out / "runs" / "fixed-seed0"])
    assert [kept.cost.step for kept in kept_students(run, 1)] == [6, 12, 16]
    assert [kept.cost.step for kept in kept_students(run, 2)] == [12, 16]
    assert [kept.cost.step for kept in kept_students(run, None)] == [16]


def test_a_run_without_students_says_how_to_keep_some(out: Path) -> None:
    (run,) = read_runs([out / "runs" / "fixed-seed0"])
    lost = Run(**{**vars(run), "folder": out / "none", "complete": False})
    with pytest.raises(RunError, match="keep_students"):
        kept_students(lost, 1)


def test_image_i_is_that_of_seed_i_noise_first_then_the_label(out: Path) -> None:
    experiment = Experiment(read_config(out), out)
    file = out / "runs" / "fixed-seed0" / "student.safetensors"
    found = StudentImages(experiment, False, torch.device("cpu"), None).of(file, 60)
    rows = torch.Generator().manual_seed(57)
    z = torch.randn((3, 8, 8), generator=rows)
    label = torch.randint(2, (), generator=rows)
    student = experiment.config.student.make(experiment.teacher, (3, 8, 8), seed=0)
    with safe_open(file, "pt") as stream:
        weights = {k[4:]: stream.get_tensor(k) for k in stream.keys() if k[:4] == "ema."}  # noqa: SIM118
    student.load_state_dict(weights)
    with torch.no_grad():
        image = student(z[None], label[None])[0]
    expected = (image * 127.5 + 128).clip(0, 255).to(torch.uint8).numpy()
    assert np.abs(found.load(57).astype(int) - expected.astype(int)).max() <= 1
    assert np.array_equal(found.load(3), found.load(3))


def test_curves_of_all_runs_are_measured_once_and_drawn(
    out: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "curves"
    text = run_curves.evaluate_run(out, reference, settings(), folder, 1, (1e9,))
    names = {file.name for file in folder.iterdir()}
    assert {"eval-steps.svg", "eval-passes.svg", "eval-images.svg", "eval-curves.json"} <= names
    assert not [name for name in names if name.startswith(".")]
    said = read_json(folder / "eval-curves.json", RunError)
    assert said["metric"] == METRIC
    assert said["smoke"]
    by_arm = {
        curve["arm"]: [point["step"] for point in curve["points"]] for curve in said["curves"]
    }
    assert by_arm == {"fixed": [6, 12, 16], "disback": [6, 12, 16]}
    (row,) = said["thresholds"]
    assert row["speedup"]["steps"] == 1.0  # both reach it at their first evaluation
    assert "1.00x in steps" in text

    def again(*arguments: object, **more: object) -> None:
        raise AssertionError("measured twice")

    monkeypatch.setattr(run_curves, "evaluate_samples", again)
    assert run_curves.evaluate_run(out, reference, settings(), folder, 1, (1e9,)) == text
    with pytest.raises(AssertionError, match="measured twice"):
        run_curves.evaluate_run(out, reference, settings(numbers=("FID", "KID")), folder, 1)


def test_curves_without_fid_are_refused_before_anything_is_measured(
    out: Path, reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="name it among --numbers"):
        run_curves.evaluate_run(out, reference, settings(numbers=("KID",)), tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def run_of(arm: str, *values: float) -> Run:
    points = tuple(CurvePoint(10 * (i + 1), 1.0, 50.0 * (i + 1), v) for i, v in enumerate(values))
    return Run(
        folder=Path(arm), experiment="e", arm=arm, seed=0, num_steps=30, primary="x",
        thresholds=(), complete=True,
        curves={METRIC: Curve(arm=arm, seed=0, metric=METRIC, points=points)},
    )  # fmt: skip


def test_the_speedup_is_of_the_steps_to_the_threshold() -> None:
    runs = [run_of("fixed", 9, 7, 5), run_of("disback", 5, 4, 3)]
    row = run_curves.reach_row(runs, METRIC, 5.0)
    assert row["speedup"] == {"steps": 3.0, "passes": 3.0}
    assert row["reach"]["fixed-seed0"]["steps"] == 30
    never = run_curves.reach_row(runs, METRIC, 3.5)
    assert never["speedup"] is None
    assert never["reach"]["fixed-seed0"] is None
