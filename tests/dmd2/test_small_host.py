"""The small host of our own, patched like DMD2: what holds there holds without a checkout."""

from pathlib import Path

import pytest
import torch

from tests.dmd2 import runs
from tests.dmd2.hosting import Host

pytest.importorskip("accelerate")
pytest.importorskip("libcst")
pytestmark = pytest.mark.slow

CASES = [
    ("small-sd", [], 1, torch.float32),
    ("small-edm", ["--dfake_gen_update_ratio", "2"], 1, torch.float32),
    ("small-sd", ["--use_fp16"], 2, torch.bfloat16),
    ("small-edm", [], 2, torch.float32),
]


@pytest.mark.parametrize(("kind", "options", "num_processes", "dtype"), CASES)
def test_off_is_identical_on_walks_the_path_and_resume_is_exact(
    small: Host,
    tmp_path: Path,
    kind: str,
    options: list[str],
    num_processes: int,
    dtype: torch.dtype,
) -> None:
    runs.run_and_check(small, kind, options, tmp_path, num_processes, dtype)


def test_fsdp_walks_the_path_by_gathered_weights_and_goes_on_from_its_checkpoint(
    small: Host, tmp_path: Path
) -> None:
    runs.run_and_check_sharded(small, "small-sd", ["--fsdp", "--use_fp16"], tmp_path, 100)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(small: Host, tmp_path: Path) -> None:
    runs.kill_and_resume(small, "small-sd", tmp_path)
