"""Two linear layers in DMD2's places, the arguments of its scripts, and a loop like its own."""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from disback_plugin.adapters.dmd2.overlay import Overlay, add_arguments


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))


def make_model(half: bool = False) -> nn.Module:
    model = nn.Module()
    model.guidance_model = nn.Module()
    teacher = network().requires_grad_(False)
    model.guidance_model.real_unet = teacher.bfloat16() if half else teacher
    model.guidance_model.fake_unet = network()
    model.feedforward_model = network()
    return model


def arguments(path: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ckpt_only_path")
    parser.add_argument("--checkpoint_path")
    add_arguments(parser)
    recording = ["--disback_record_iters", "3", "--disback_record_at", "1,3"]
    on = ["--disback", "--disback_path", str(path), *recording, "--disback_interval", "2"]
    return parser.parse_args([*(on if path != Path() else []), *more])


def started(path: Path, kind: str = "dmd2-sd", half: bool = False) -> tuple[Overlay, Any]:
    """An overlay that is attached, and its model."""
    model = make_model(half)
    overlay = Overlay(arguments(path), model, kind)
    overlay.attach(model)
    return overlay, model


def train(overlay: Overlay, model: Any, steps: range) -> None:
    """The fake score moves every step, the generator when it may."""
    for step in steps:
        overlay.begin_step(step)
        with torch.no_grad():
            for value in model.guidance_model.fake_unet.parameters():
                value += 1e-3
            if overlay.update_student:
                for value in model.feedforward_model.parameters():
                    value += 1.0
        overlay.end_step(step)
