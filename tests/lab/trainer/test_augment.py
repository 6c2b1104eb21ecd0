"""EDM's augmentation: what each move does, and that it is what NVlabs/edm does."""

import importlib
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from disback_plugin.errors import ConfigError
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.augment import augmented, draw_moves, labels_of
from disback_plugin.pretrained import load_denoiser
from tests.lab.trainer.checkpoint_cases import settings
from tests.lab.trainer.conftest import same_bits, tensors
from tests.pretrained.edm.upstream import needs_checkout, nvlabs_networks


def smooth(num: int, size: int = 16) -> Tensor:
    """Pictures of long waves, which survive resampling."""
    x = torch.arange(size) / size
    waves = [torch.sin(2 * math.pi * (x[:, None] * (k + 1) + x * k)) for k in range(3)]
    return torch.stack(waves).expand(num, -1, -1, -1).clone()


def moves(**named: float) -> Tensor:
    names = ["flip_x", "flip_y", "scale", "angle", "stretch", "axis", "shift_x", "shift_y"]
    return torch.tensor([[named.get(name, 0.0) for name in names]])


def test_no_move_is_the_identity_and_told_as_zeros() -> None:
    images, told = augmented(smooth(1), moves())
    torch.testing.assert_close(images, smooth(1), atol=2e-6, rtol=0)
    assert torch.equal(told, torch.zeros(1, 9))


@pytest.mark.parametrize(
    ("move", "expected", "error"),
    [
        ({"flip_x": 1.0}, lambda images: images.flip(3), 1e-5),
        ({"flip_y": 1.0}, lambda images: images.flip(2), 1e-5),
        # the filter is not symmetric: a picture that is turned by it is a little another one
        ({"angle": math.pi}, lambda images: images.rot90(2, (2, 3)), 0.1),
        ({"angle": math.pi / 2}, lambda images: images.rot90(1, (2, 3)), 0.1),
        # an eighth of the side, 2 pixels of 16
        ({"shift_x": 1.0}, lambda images: images.roll(2, 3), 1e-5),
        ({"shift_y": -1.0}, lambda images: images.roll(-2, 2), 1e-5),
    ],
)
def test_whole_moves_move_whole_pixels(move: dict[str, float], expected: Any, error: float) -> None:
    images, told = augmented(smooth(1), moves(**move))
    inner = (..., slice(4, -4), slice(4, -4))  # of a shift the edges are mirrored
    torch.testing.assert_close(images[inner], expected(smooth(1))[inner], atol=error, rtol=0)
    assert told.abs().max() >= 1


def test_moves_are_drawn_as_often_as_asked() -> None:
    drawn = draw_moves(20_000, 0.12, torch.Generator().manual_seed(0))
    shares = (drawn != 0).float().mean(0)
    expected = torch.tensor([0.5, 0.06, 0.12, 0.12, 0.12, 0.5, 0.12, 0.12])
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    kept = drawn[drawn[:, 6] != 0]
    assert torch.equal(kept[:, 7] != 0, torch.ones(len(kept), dtype=torch.bool))  # both or none
    assert kept[:, 6].std().item() == pytest.approx(1, abs=0.05)
    assert drawn[:, 3].abs().max() <= math.pi


@needs_checkout
def test_it_is_what_edm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with nvlabs_networks():
        pipe = importlib.import_module("training.augment").AugmentPipe(
            p=0.7, xflip=1e8, yflip=1, scale=1, rotate_frac=1, aniso=1, translate_frac=1
        )
    drawn: list[Tensor] = []

    def recorded(name: str) -> Any:
        draw = getattr(torch, name)

        def wrapper(*arguments: Any, **named: Any) -> Tensor:
            made = draw(*arguments, **named)
            drawn.append(made.squeeze())
            return made

        return wrapper

    images = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with monkeypatch.context() as patch:
        for name in ("rand", "randn", "randint"):
            patch.setattr(torch, name, recorded(name))
        torch.manual_seed(5)
        expected, labels = pipe(images)
    # in their order: a value, then whether it is used; of the stretch value, axis, whether, whether
    flip_x, _, flip_y, b, scale, c, turn, d, stretch, axis, e, turned, shift, f = drawn
    angle, axis = (math.pi * (2 * value - 1) for value in (turn, axis))
    columns = [flip_x, flip_y * (b < 0.7), scale * (c < 0.7), angle * (d < 0.7)]
    columns += [stretch * (e < 0.7), axis * (turned < 0.5), *(shift * (f < 0.7))]
    ours = torch.stack([column.float() for column in columns], 1)
    torch.testing.assert_close(labels_of(ours), labels, atol=1e-6, rtol=0)
    moved, _ = augmented(images, ours)
    assert (moved - images).abs().max() > 1
    torch.testing.assert_close(moved, expected, atol=2e-4, rtol=0)


def test_it_trains_the_fake_scores_labels_and_resumes(files: Path, tmp_path: Path) -> None:
    short = ("distill.num_steps=5", "evaluation.every=5", "checkpoint.every=3")
    config = settings("edm", files, *short, "distill.augment=0.5")
    run_experiment(config, tmp_path / "out", ["disback"])
    run = tmp_path / "out/runs/disback-seed0"
    final, name = tensors(run), "model.map_augment.weight"
    trained = load_file(run / "checkpoints" / "step_000005" / "fake_score.safetensors")[name]
    assert not torch.equal(trained, load_denoiser(f"edm-pkl:{files}/edm.pkl").state_dict()[name])
    (run / "run.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000005")
    run_experiment(config, tmp_path / "out", ["disback"], resume=True)
    assert same_bits(tensors(run), final)


def test_a_network_that_is_not_told_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="9 augmentation labels"):
        config = settings("ddpm", files, "distill.augment=0.12")
        run_experiment(config, tmp_path / "out", ["fixed"])
    assert not (tmp_path / "out").exists()
