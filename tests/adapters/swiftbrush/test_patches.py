"""`disback swiftbrush`: each repair by itself, names that are inserted, scripts without CUDA."""

import ast
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from disback_plugin.cli import main
from swiftbrush_patches import REPAIRS
from tests.adapters.swiftbrush.host import FILES
from tests.adapters.test_patches import contents

TRAIN = FILES[0]


@pytest.mark.parametrize("patch", REPAIRS, ids=lambda patch: patch.name)
def test_each_repair_applies_by_itself(patch: Any, small_copy: Path) -> None:
    before = contents(small_copy)
    chosen = ["--repairs", patch.name, "--force"]
    assert main(["swiftbrush", "apply", str(small_copy), *chosen]) == 0
    changed = {name for name in FILES if (small_copy / name).read_bytes() != before[name]}
    assert changed == {*patch.files, TRAIN}  # the features are in TRAIN
    assert main(["swiftbrush", "revert", str(small_copy)]) == 0
    assert contents(small_copy) == before


def test_names_the_patches_insert_are_not_the_scripts_own(upstream: Path) -> None:
    """A name that `main` assigns somewhere is a local of it everywhere."""
    names = {
        node.id
        for node in ast.walk(ast.parse((upstream / TRAIN).read_text()))
        if isinstance(node, ast.Name)
    }
    assert {"unet", "teacher_lora", "checkpoints", "save_path"} <= names
    ours = {"disback", "disback_run", "disback_draws", "both_networks", "Epochs"}
    assert not names & ours


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without CUDA")
def test_prepare_and_infer_run_without_cuda(small_copy: Path) -> None:
    def prepare() -> nn.Module:
        return runpy.run_path(str(small_copy / "prepare.py"))["main"](nn.Linear(1, 1).double())

    def infer() -> torch.Tensor:
        return runpy.run_path(str(small_copy / "infer.py"))["main"]()

    for run in (prepare, infer):
        with pytest.raises((RuntimeError, AssertionError), match=r"NVIDIA|CUDA"):
            run()
    assert main(["swiftbrush", "apply", str(small_copy), "--force"]) == 0
    assert next(prepare().parameters()).dtype == torch.float32
    assert (infer().device.type, infer().dtype) == ("cpu", torch.float32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without CUDA")
def test_float16_is_refused_at_the_start_on_the_cpu(
    small_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["swiftbrush", "apply", str(small_copy), "--force"]) == 0
    monkeypatch.setattr(
        sys, "argv", ["train", "--mixed_precision", "fp16", "--output_dir", str(small_copy)]
    )
    AcceleratorState._reset_state(True)  # another test's accelerator in this process
    try:
        with pytest.raises(ValueError, match="fp16 needs a GPU: bf16 works on the CPU"):
            runpy.run_path(str(small_copy / TRAIN), run_name="__main__")
    finally:
        AcceleratorState._reset_state(True)  # half made, in fp16
