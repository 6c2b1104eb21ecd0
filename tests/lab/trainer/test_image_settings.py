"""Settings of image problems: what they ask for is used, and what cannot be is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.networks import (
    EDMDenoiserConfig,
    ImagesConfig,
    SongUNetConfig,
)
from disback_plugin.lab.data import DataSet, ImageLMDB, write_image_lmdb
from disback_plugin.lab.networks.song_unet import LabelledSongUNet
from disback_plugin.lab.problems.problems import make_problem
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.build import make_teacher
from disback_plugin.lab.trainer.run_folder import read_config
from tests.lab.trainer.conftest import same_bits, tensors, tiny_config

CLASSIFIER = {"num_epochs": 1, "channels": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def lmdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of 8x8, dark on the left, in two classes."""
    folder = tmp_path_factory.mktemp("images") / "lmdb"
    images = np.random.default_rng(0).integers(0, 128, (40, 3, 8, 8), dtype=np.uint8)
    images[..., 4:] += 100
    write_image_lmdb(folder, ((image, row % 2) for row, image in enumerate(images)))
    return folder


def run(lmdb: Path, out: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """The weights of the student of the arm `fixed`."""
    config = tiny_config(
        f"problem={{kind: images, lmdb: {lmdb}, conditional: true}}",
        "teacher.network={kind: song-unet, channels: 8, multipliers: [1], num_blocks: 1}",
        "student={kind: denoiser, sigma: 20}",
        *("evaluation.primary=fd_pixel", "distill.num_steps=8", *overrides),
    )
    run_experiment(config, out, ["fixed"])
    return tensors(out / "runs" / "fixed-seed0")


def test_in_memory_trains_the_same_student(lmdb: Path, tmp_path: Path) -> None:
    disk = run(lmdb, tmp_path / "disk")
    assert same_bits(run(lmdb, tmp_path / "held", "problem.in_memory=true"), disk)
    flipped = run(lmdb, tmp_path / "flipped", "teacher.training.x_flip=true")
    assert not same_bits(flipped, disk)


def test_channels_last_trains_and_resumes_exactly(lmdb: Path, tmp_path: Path) -> None:
    plain, out = run(lmdb, tmp_path / "plain"), tmp_path / "fast"
    fast = run(lmdb, out, "channels_last=true")
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-2, atol=1e-3, msg=name)
    folder = out / "runs" / "fixed-seed0"
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step_000008")
    run_experiment(read_config(out), out, ["fixed"], resume=True)
    assert same_bits(tensors(folder), fast)


def test_where_the_data_are_is_the_settings_choice(lmdb: Path) -> None:
    disk = make_problem(ImagesConfig(lmdb=lmdb)).dataset
    held = make_problem(ImagesConfig(lmdb=lmdb, in_memory=True)).dataset
    assert isinstance(disk, ImageLMDB)
    assert isinstance(held, DataSet)


def test_a_song_unet_is_built_as_the_settings_say(lmdb: Path) -> None:
    problem = make_problem(ImagesConfig(lmdb=lmdb, conditional=True))
    config = SongUNetConfig(channels=8, multipliers=(1, 2), num_blocks=2, attn_resolutions=(4,))
    network = make_teacher(EDMDenoiserConfig(), config, problem, 0).network
    assert isinstance(network, LabelledSongUNet)
    assert (network.num_classes, network.unet.img_resolution) == (2, 8)
    blocks = [name for name in network.unet.enc if "block" in name]
    assert blocks == ["8x8_block0", "8x8_block1", "4x4_block0", "4x4_block1"]
    assert hasattr(network.unet.enc["4x4_block0"], "qkv")
    assert not hasattr(network.unet.enc["8x8_block0"], "qkv")


def test_a_classifier_needs_labels_and_images_in_memory(lmdb: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'classifier' needs in_memory: true"):
        ImagesConfig(lmdb=lmdb, classifier=CLASSIFIER)
    images = np.zeros((4, 3, 8, 8), np.uint8)
    write_image_lmdb(tmp_path / "bare", ((image, None) for image in images))
    config = ImagesConfig(lmdb=tmp_path / "bare", in_memory=True, classifier=CLASSIFIER)
    with pytest.raises(ConfigError, match=r"classifier needs labels, which .*bare does not have"):
        make_problem(config)


def test_its_distance_is_a_metric_only_with_a_classifier(lmdb: Path) -> None:
    assert ImagesConfig(lmdb=lmdb).metric_names == ("fd_pixel",)
    both = ImagesConfig(lmdb=lmdb, in_memory=True, classifier=CLASSIFIER)
    assert both.metric_names == ("fd_pixel", "fd_classifier")
    text = f"problem={{kind: images, lmdb: {lmdb}}}"
    with pytest.raises(ConfigError, match="has no metric 'fd_classifier'"):
        tiny_config(text, "evaluation.primary=fd_classifier")
