"""The repair `student-checkpoints`: both networks are in a checkpoint, and come back exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from disback_plugin.adapters.swiftbrush.checkpoints import FILE_NAME, loading, saving
from disback_plugin.errors import SessionError
from tests.adapters.swiftbrush.lora_unet import make_unets, move
from tests.toy import same, tensors_of


def save_hook(models: list[Any], weights: list[Any], output_dir: str) -> None:
    """As SwiftBrush's: whatever it meets goes to unet/."""
    for model in models:
        model.save_pretrained(Path(output_dir, "unet"))
        weights.pop()


def load_hook(models: list[Any], input_dir: str) -> None:
    while models:
        saved = UNet2DConditionModel.from_pretrained(input_dir, subfolder="unet")
        models.pop().load_state_dict(saved.state_dict())


def trained(inputs: Path, rank: int = 2) -> tuple[Any, Any]:
    unet, teacher_lora = make_unets(inputs, rank)
    move(teacher_lora)
    with torch.no_grad():
        for value in unet.parameters():
            value += torch.randn_like(value)
    return unet, teacher_lora


def test_student_and_lora_come_back_bit_for_bit(inputs: Path, tmp_path: Path) -> None:
    unet, teacher_lora = trained(inputs)
    wrapped: list[nn.Module] = [nn.Sequential(unet), nn.Sequential(teacher_lora)]
    weights: list[Any] = [{}, {}]
    saving(save_hook, unet, teacher_lora)(wrapped, weights, str(tmp_path))
    assert weights == []  # accelerate saves nothing more
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.safetensors"))
    assert files == [
        "teacher_lora/pytorch_lora_weights.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    again, other = make_unets(inputs)
    assert not same(tensors_of(again), tensors_of(unet))
    models: list[nn.Module] = [again, other]
    loading(load_hook, again, other)(models, str(tmp_path))
    assert models == []
    assert same(tensors_of(again), tensors_of(unet))
    assert same(tensors_of(other), tensors_of(teacher_lora))


def test_the_lora_is_a_file_that_diffusers_reads(inputs: Path, tmp_path: Path) -> None:
    unet, teacher_lora = trained(inputs)
    saving(save_hook, unet, teacher_lora)([], [{}], str(tmp_path))
    fresh, _ = make_unets(inputs)
    folder = str(tmp_path / "teacher_lora")
    fresh.load_lora_adapter(folder, prefix=None, weight_name=FILE_NAME)
    own = {name: value for name, value in tensors_of(teacher_lora).items() if ".lora_" in name}
    loaded = {
        name.replace(".default_0.", ".default."): value
        for name, value in tensors_of(fresh).items()
        if ".lora_" in name
    }
    assert same(own, loaded)


def test_a_checkpoint_that_lost_its_student_is_refused(inputs: Path, tmp_path: Path) -> None:
    unet, teacher_lora = trained(inputs)
    save_hook([unet, teacher_lora], [{}, {}], str(tmp_path))  # the teacher wins
    before = tensors_of(unet)
    with pytest.raises(SessionError, match=r"no teacher_lora/.*its student is lost.*cut short"):
        loading(load_hook, unet, teacher_lora)([unet, teacher_lora], str(tmp_path))
    assert same(tensors_of(unet), before)


def test_another_rank_is_refused_by_the_arguments_name(inputs: Path, tmp_path: Path) -> None:
    unet, teacher_lora = trained(inputs)
    saving(save_hook, unet, teacher_lora)([], [{}], str(tmp_path))
    other = trained(inputs, rank=3)
    with pytest.raises(SessionError, match=r"not the LoRA of --lora_rank now:.*shape \(2, 16\)"):
        loading(load_hook, *other)([], str(tmp_path))
