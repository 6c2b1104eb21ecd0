"""A network of a few hundred weights with Inception's interface, and images in every form."""

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from disback_plugin.lab.evaluation import feature_store
from disback_plugin.lab.evaluation.evaluate import Request
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.networks import FeatureNetwork, open_network
from disback_plugin.lab.evaluation.protocols import get_protocol


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class SmallInception(nn.Module):
    """What NVlabs' TorchScript is asked for: blocks named as TensorFlow's, features, classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        self.layers.add_module("conv", nn.Conv2d(3, 6, 30, stride=60))
        self.layers.add_module("mixed_6", Block())
        self.layers.add_module("pool2", nn.AdaptiveAvgPool2d(1))
        self.output = nn.Linear(9, 10)

    def forward(
        self, img: Tensor, return_features: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        size = (img.shape[0], img.shape[1], 299, 299)
        theta = torch.eye(2, 3)
        theta[0, 2] += theta[0, 0] / img.shape[3] - theta[0, 0] / 299
        theta[1, 2] += theta[1, 1] / img.shape[2] - theta[1, 1] / 299
        theta = theta.unsqueeze(0).repeat([img.shape[0], 1, 1])
        grid = nn.functional.affine_grid(theta, size, align_corners=False)
        x = nn.functional.grid_sample(img, grid, padding_mode="border", align_corners=False)
        x = self.layers((x - 128) / 128).flatten(1)
        return x if return_features else self.output(x).softmax(1)


@pytest.fixture(scope="session")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; Inception's file is one
        torch.manual_seed(0)
        file = tmp_path_factory.mktemp("network") / "small.pt"
        torch.jit.script(SmallInception()).save(str(file))
    return file


@pytest.fixture
def network(network_file: Path) -> FeatureNetwork:
    return open_network("inception-2015-12-05", None, f"torchscript:{network_file}")


@pytest.fixture
def request_of_edm(network: FeatureNetwork) -> Request:
    return Request(protocol=get_protocol("edm"), network=network, smoke=True)


def pixels(num: int, seed: int, shift: int = 0) -> np.ndarray:
    """(num, 12, 12, 3) uint8, bright on the right."""
    images = np.random.default_rng(seed).integers(0, 130, (num, 12, 12, 3), dtype=np.uint8)
    images[:, :, 6:] += np.uint8(60 + shift)
    return images


def save_folder(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:06d}.png")
    return folder


def save_zip(file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for image in sorted(folder.iterdir()):
            archive.write(image, image.name)
    return file


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "samples", pixels(23, seed=1, shift=20))


@pytest.fixture
def real(tmp_path: Path) -> Path:
    np.savez(tmp_path / "real.npz", arr_0=pixels(31, seed=2))
    return tmp_path / "real.npz"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(folder=tmp_path / "work", device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards of several blocks, of a few images."""
    monkeypatch.setattr(feature_store, "BLOCK", 3)
    monkeypatch.setattr(feature_store, "SHARD", 8)
