"""TensorBoard beside metrics.jsonl: the same numbers, grids of samples, no step twice."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from disback_plugin.lab.grid import grid_of
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.run_folder import read_config
from disback_plugin.lab.trainer.trackers import track_samples
from tests.lab.trainer.conftest import lines, tiny_config

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(run: Path):
    """What TensorBoard shows of a run."""
    events = event_accumulator.EventAccumulator(str(run / "tensorboard" / "run"))
    return events.Reload()


def steps(events, tag: str) -> list[int]:
    return [event.step for event in events.Scalars(tag)]


def test_tensorboard_has_the_numbers_of_metrics_jsonl_once_also_after_a_resume(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    run = out / "runs" / "disback-seed0"
    run_experiment(tiny_config("logging.tensorboard=true"), out, ["disback"])

    def check() -> None:
        events = read(run)
        train = lines(run / "metrics.jsonl", "train")
        assert steps(events, "train/node") == [line["step"] for line in train]
        losses = [event.value for event in events.Scalars("train/fake_loss")]
        assert losses == pytest.approx([line["fake_loss"] for line in train])
        nodes = lines(run / "metrics.jsonl", "node")  # the path's curve
        distances = [(e.step, e.value) for e in events.Scalars("node/distance")]
        assert distances == [(n["step"], pytest.approx(n["distance"])) for n in nodes]
        evaluations = lines(run / "metrics.jsonl", "eval")
        name = next(iter(evaluations[0]["metrics"]))
        assert steps(events, f"eval/{name}") == [line["step"] for line in evaluations]

    check()
    (run / "run.json").unlink()  # as if killed after an earlier checkpoint
    newest = max((run / "checkpoints").iterdir())
    shutil.rmtree(newest)
    assert list((run / "checkpoints").iterdir())
    run_experiment(read_config(out), out, ["disback"], resume=True)
    check()


def test_images_go_there_as_a_grid(lmdb: Path, tmp_path: Path) -> None:
    config = tiny_config(
        f"problem={{kind: images, lmdb: {lmdb}, conditional: true}}",
        "teacher.network={kind: song-unet, channels: 8, multipliers: [1], num_blocks: 1}",
        "student={kind: denoiser, sigma: 20}",
        *("evaluation.primary=fd_pixel", "distill.num_steps=8", "logging.tensorboard=true"),
    )
    run_experiment(config, tmp_path / "out", ["fixed"])
    run = tmp_path / "out" / "runs" / "fixed-seed0"
    pictures = read(run).Images("eval/samples")
    evaluations = [line["step"] for line in lines(run / "metrics.jsonl", "eval")]
    assert [picture.step for picture in pictures] == evaluations
    height, width = config.problem.load().data_shape[1:]
    side = int(np.ceil(np.sqrt(min(64, config.evaluation.num_samples))))
    assert pictures[0].width == side * (width + 1) - 1
    assert pictures[0].height % (height + 1) == height


class Tracker:
    """Keeps what it is sent."""

    name = "wandb"

    def __init__(self) -> None:
        self.sent: dict[str, np.ndarray] = {}

    def log_images(self, values: dict[str, np.ndarray], step: int) -> None:
        self.sent |= values


def test_pixels_are_those_of_the_samples_and_other_samples_are_no_pictures() -> None:
    tracker = Tracker()

    class Holder:
        trackers = (tracker,)

    samples = torch.tensor([-1.0, 0.0, 1.0, 9.0]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    track_samples(Holder(), samples, 3)  # type: ignore[arg-type]
    [picture] = tracker.sent["eval/samples"]
    assert picture.shape == (5, 5, 1)
    assert picture[::3, ::3, 0].tolist() == [[0, 128], [255, 255]]
    assert picture[2].min() == 255  # the gap
    tracker.sent.clear()
    for other in (torch.zeros(4, 2), torch.zeros(4, 4, 8, 8)):  # points, latents
        track_samples(Holder(), other, 3)  # type: ignore[arg-type]
    assert tracker.sent == {}
    assert grid_of([np.zeros((32, 32, 3), np.uint8)] * 3).shape == (66, 66, 3)
