"""The memory that experiments/sdxl/README.md states is that of the trainer's roles, added up."""

import functools
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "experiments" / "sdxl"


@pytest.fixture(scope="module")
def memory():
    spec = importlib.util.spec_from_file_location("sdxl_memory", FOLDER / "memory.py")
    module = sys.modules["sdxl_memory"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["sdxl_memory"]


def test_bytes_count_while_somebody_holds_them(memory) -> None:
    with memory.Allocated() as counted:
        first = torch.empty(1000)
        second = first.view(10, 100) + 1  # a view is no memory of its own
        assert counted.now == 8000
        del first
        assert counted.now == 4000
        third = second.double()
        assert (counted.now, counted.peak) == (12_000, 12_000)
        del second, third
        assert (counted.now, counted.peak) == (0, 12_000)


@pytest.fixture(scope="module")
def small(memory):
    """What the settings of one_gpu.yaml need on a tiny U-Net of SDXL's kind."""
    unet = {
        **memory.SDXL,
        "sample_size": 16,
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (1, 2),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1),
    }

    @functools.cache
    def measure(*overrides, **options):
        config = memory.load_config(FOLDER / "one_gpu.yaml", ["lora.rank=4", *overrides])
        return memory.measure(config, unet, **options)

    return measure


@pytest.mark.thorough
def test_the_parts_are_those_of_the_roles(small) -> None:
    found, wider = small(), small("lora.rank=8")
    assert (wider.lora, wider.base) == (2 * found.lora, found.base)
    assert found.num_loras == 4
    # two moments each of two adapters, and a step count a tensor
    assert 4 * found.lora <= found.moments < 4.1 * found.lora
    assert found.rest > found.lora  # the gradients of one
    assert f"| together, at the peak | {found.peak:,} |" in found.table()


@pytest.mark.thorough
def test_checkpointing_keeps_less_and_larger_batches_take_more(small) -> None:
    found = small()
    assert small("gradient_checkpointing=false").rest > 1.3 * found.rest
    assert small("distill.batch_size=2").rest > 1.3 * found.rest


@pytest.mark.thorough
def test_the_students_update_takes_most(small) -> None:
    assert small(turns=("student",)) == small()
    assert small(turns=("fake_score",)).peak < small().peak


@pytest.mark.thorough
def test_the_readme_has_the_table_of_the_config_within_24_gib(memory) -> None:
    found = memory.measure(memory.load_config(FOLDER / "one_gpu.yaml"), turns=["student"])
    assert found.base == 2 * 2_567_463_684
    assert found.table() in (FOLDER / "README.md").read_text()
    assert found.peak < 24 * memory.GIB
