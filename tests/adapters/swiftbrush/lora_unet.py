"""Two tiny UNets in SwiftBrush's places, and a loop like its own."""

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor

from disback_plugin.adapters.swiftbrush.overlay import Overlay, add_arguments
from tests.adapters.dmd2.inputs import LATENT, LATENT_CHANNELS, MAX_TOKENS, TEXT_DIM

NUM_RECORD, NUM_STEPS = 3, 6  # nodes after 1 and 3 steps: node 1 answers in steps 3 and 4


def load(inputs: Path) -> Any:
    return UNet2DConditionModel.from_pretrained(inputs / "sd15", subfolder="unet")


def make_unets(inputs: Path, rank: int = 2) -> tuple[Any, Any]:
    """Student and teacher, the same at each call."""
    teacher_lora = load(inputs)
    torch.manual_seed(5)
    teacher_lora.add_adapter(LoraConfig(r=rank, lora_alpha=4, target_modules=["to_q", "to_v"]))
    return load(inputs), teacher_lora


def arguments(path: Path | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    recording = ["--disback_record_iters", str(NUM_RECORD), "--disback_record_at", "1,3"]
    on = ["--disback", "--disback_path", str(path), *recording, "--disback_interval", "2"]
    return parser.parse_args([] if path is None else on)


def started(inputs: Path, path: Path) -> tuple[Overlay, Any, Any]:
    """An overlay that is on, its student and its teacher."""
    unet, teacher_lora = make_unets(inputs)
    return Overlay(arguments(path), unet, teacher_lora), unet, teacher_lora


def answer(model: Any) -> Tensor:
    """The network's output for one fixed input."""
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(1, LATENT_CHANNELS, LATENT, LATENT, generator=generator)
    embeds = torch.randn(1, MAX_TOKENS, TEXT_DIM, generator=generator)
    with torch.no_grad():
        return model(sample, torch.tensor([400]), embeds).sample


def real_score(run: Overlay, teacher_lora: Any) -> Tensor:
    """As SwiftBrush evaluates it."""
    teacher_lora.disable_adapters()
    run.show_real_score()
    output = answer(teacher_lora)
    run.hide_real_score()
    teacher_lora.enable_adapters()
    return output


def move(teacher_lora: Any) -> None:
    """The fake score learns a little."""
    with torch.no_grad():
        for name, value in teacher_lora.named_parameters():
            if "lora_" in name:
                value += 0.1


def train(run: Overlay, unet: Any, teacher_lora: Any, steps: range) -> list[Tensor]:
    """The real score's answer at each step."""
    answers = []
    for step in steps:
        run.begin_step(step)
        answers.append(real_score(run, teacher_lora))
        if run.update_student:
            with torch.no_grad():
                for value in unet.parameters():
                    value += 0.01
        move(teacher_lora)
        run.end_step(step)
    return answers
