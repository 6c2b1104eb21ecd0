"""Mixed precision: lower precision in the middle, float32 weights, the same exact resume."""

from pathlib import Path

import pytest
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.roles import make_accelerator
from tests.lab.trainer.conftest import same_bits, tensors, tiny_config, whole_and_resumed


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.usefixtures("fresh_accelerate")
def test_mixed_precision_trains_and_resumes_exactly(precision: str, tmp_path: Path) -> None:
    config = tiny_config(f"mixed_precision={precision}", "checkpoint.keep=9")
    whole, run = whole_and_resumed(config, tmp_path)
    final = tensors(run)
    assert all(value.dtype == torch.float32 for value in final.values())
    assert all(torch.isfinite(value).all() for value in final.values())
    assert same_bits(final, tensors(whole))


@pytest.mark.usefixtures("fresh_accelerate")
def test_mixed_precision_computes_in_low_precision(finished: Path, tmp_path: Path) -> None:
    run_experiment(tiny_config("mixed_precision=bf16"), tmp_path / "out", ["fixed"])
    low, full = tensors(tmp_path / "out/runs/fixed-seed0"), tensors(finished / "runs/fixed-seed0")
    assert not same_bits(low, full)


@pytest.mark.usefixtures("fresh_accelerate")
def test_another_precision_in_the_same_process_is_an_error() -> None:
    make_accelerator(tiny_config())
    with pytest.raises(ConfigError, match="mixed_precision=bf16: AcceleratorState has already"):
        make_accelerator(tiny_config("mixed_precision=bf16"))
