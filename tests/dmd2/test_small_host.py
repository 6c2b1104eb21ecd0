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


@pytest.mark.parametrize("kind", ["small-sd", "small-edm"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    small: Host, tmp_path: Path, kind: str
) -> None:
    runs.kill_and_resume(small, kind, tmp_path)


@pytest.mark.parametrize("script", ["train_sd.py", "edm/train_edm.py"])
def test_the_side_files_are_written_before_any_weights(small: Host, script: str) -> None:
    text = (small.patched / "main" / script).read_text()
    save = text[text.index("def save(self)") : text.index("def train_one_step(self)")]
    ours = [save.index("self.disback.save("), save.index("exact_resume.save(")]
    for written in ("torch.save(", "save_state(", "copytree("):
        assert written not in save or max(ours) < save.index(written)
