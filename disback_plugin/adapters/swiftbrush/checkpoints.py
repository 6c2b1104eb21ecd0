"""Checkpoints of SwiftBrush that hold both its networks.

The script tells them apart by their class, which is the same, so both are written to `unet/` and
the student is lost. Here its own hooks meet the student alone; the teacher's LoRA lies beside it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from disback_plugin.distributed import is_main
from disback_plugin.errors import InstallError, SessionError
from disback_plugin.files import read_tensors, write_tensors
from disback_plugin.real_score.copying import copy_node
from disback_plugin.real_score.lora_layers import adapter_tensors
from disback_plugin.real_score.pieces import whole_pieces

FOLDER, FILE_NAME = "teacher_lora", "pytorch_lora_weights.safetensors"  # diffusers' own name
TRAINED = "default"  # diffusers' name for an adapter added without one
Hook = Callable[..., None]


def saving(hook: Hook, unet: nn.Module, teacher_lora: Any) -> Hook:
    """accelerate's save hook: `unet` as the script's `hook` saves it, then the teacher's LoRA."""

    def save(models: list[nn.Module], weights: list[Any], output_dir: str) -> None:
        hook([unet], weights, output_dir)
        weights.clear()  # accelerate saves what is left
        if is_main():
            teacher_lora.save_lora_adapter(Path(output_dir, FOLDER), adapter_name=TRAINED)
            file = Path(output_dir, FOLDER, FILE_NAME)
            write_tensors(file, *read_tensors(file), seal=True)

    return save


def loading(hook: Hook, unet: nn.Module, teacher_lora: nn.Module) -> Hook:
    """accelerate's load hook: the student by the script's `hook`, the LoRA bit for bit.

    Raises SessionError for a checkpoint without a student, or with a LoRA of another shape.
    """

    def load(models: list[nn.Module], input_dir: str) -> None:
        file = Path(input_dir, FOLDER, FILE_NAME)
        if not file.exists():
            raise SessionError(
                f"{input_dir} has no {FOLDER}/{FILE_NAME}: it was made without the patch "
                "'student-checkpoints' (its unet/ holds the teacher, its student is lost), or its "
                "saving was cut short. Resume another one"
            )
        hook([unet], input_dir)
        models.clear()  # accelerate loads what is left
        own = whole_pieces(adapter_tensors(teacher_lora, TRAINED))
        try:
            copy_node(own, read_tensors(file, SessionError, sealed=True)[0])
        except InstallError as error:
            raise SessionError(f"{file}: not the LoRA of --lora_rank now: {error}") from None

    return load
