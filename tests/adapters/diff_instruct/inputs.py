"""A tiny image folder and teacher for Diff-Instruct, the pickle made by the checkout's own code."""

import importlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE, NUM_IMAGES, NUM_CLASSES, CHANNELS = 4, 24, 3, 8


def make_images(folder: Path) -> None:
    """PNG files and their labels as `dataset.json`, as EDM's data sets are laid out."""
    folder.mkdir(parents=True)
    random = np.random.RandomState(0)
    names = [f"{number:04d}.png" for number in range(NUM_IMAGES)]
    for name in names:
        pixels = random.randint(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    labels = [[name, number % NUM_CLASSES] for number, name in enumerate(names)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def make_teacher(file: Path) -> None:
    """A random network of the checkout that is importable now, as `{"ema": network}`.

    And beside it `student.pkl`, whose samples it does not know.
    """
    torch.manual_seed(0)
    networks = importlib.import_module("training.networks")
    network = networks.EDMPrecond(
        img_resolution=SIDE,
        img_channels=3,
        label_dim=NUM_CLASSES,
        model_type="SongUNet",
        augment_dim=9,
        model_channels=CHANNELS,
        channel_mult=[1],
        num_blocks=1,
    )
    with torch.no_grad():  # EDM starts many layers at 0: no score would move, nor differ
        for value in network.parameters():
            value += 0.02 * torch.randn_like(value)
    _write(network, file)
    with torch.no_grad():  # of the last layer, the real host's or the small one's
        for name, value in network.named_parameters():
            value *= 30 if "aux_conv" in name or "outward" in name else 1
    _write(network, file.with_name("student.pkl"))


def _write(network: torch.nn.Module, file: Path) -> None:
    own = file.with_name(f"{os.getpid()}-{file.name}")  # every process makes the same
    own.write_bytes(pickle.dumps({"ema": network.eval().requires_grad_(False)}))
    own.replace(file)
