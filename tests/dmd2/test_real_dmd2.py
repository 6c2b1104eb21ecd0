"""DMD2's own scripts at 8d8fa55, patched, on tiny networks.

By default a few cases; DISBACK_DMD2=all pytest tests/dmd2 runs all (15 minutes on 2 cores).
"""

import os
from pathlib import Path

import pytest
import torch

from tests.dmd2 import runs
from tests.dmd2.hosting import Host

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
more = pytest.mark.skipif(os.environ.get("DISBACK_DMD2") != "all", reason="DISBACK_DMD2=all")

SD_GAN = "--cls_on_clean_image --gen_cls_loss --gen_cls_loss_weight 5e-3 --diffusion_gan "
SD_GAN += "--guidance_cls_loss_weight 1e-2 --diffusion_gan_max_timestep 1000"
EDM_GAN = "--gan_classifier --cls_loss_weight 1e-2 --gen_cls_loss_weight 3e-3 --diffusion_gan "
EDM_GAN += "--diffusion_gan_max_timestep 1000"
FOUR_STEPS = "--denoising --num_denoising_step 4 --denoising_timestep 1000 --backward_simulation"
SETTINGS = {
    "plain": "",
    "bf16-gan": f"--use_fp16 {SD_GAN} --dfake_gen_update_ratio 2",
    "lora-4step": f"--generator_lora --lora_rank 2 {FOUR_STEPS} {SD_GAN}",
    "4step": FOUR_STEPS,
    "checkpointing": f"--gradient_checkpointing --use_fp16 {SD_GAN}",
    "edm-gan": f"{EDM_GAN} --use_fp16 --dfake_gen_update_ratio 2",
}


CASES = [
    pytest.param("edm", "plain", 1),
    pytest.param("sdxl", "bf16-gan", 1),
    pytest.param("sd15", "plain", 1, marks=more),
    pytest.param("sdxl", "plain", 1, marks=more),
    pytest.param("sdxl", "plain", 2, marks=more),
    pytest.param("sd15", "plain", 2, marks=more),
    pytest.param("edm", "plain", 2, marks=more),
    pytest.param("sdxl", "lora-4step", 1, marks=more),
    pytest.param("sdxl", "4step", 1, marks=more),
    pytest.param("sd15", "checkpointing", 1, marks=more),
    pytest.param("edm", "edm-gan", 1, marks=more),
    pytest.param("sdxl", "bf16-gan", 2, marks=more),
]


@pytest.mark.parametrize(("kind", "settings", "num_processes"), CASES)
def test_off_is_identical_on_walks_the_path_and_resume_is_exact(
    real: Host, tmp_path: Path, kind: str, settings: str, num_processes: int
) -> None:
    casts = "--use_fp16" in SETTINGS[settings] and kind != "edm"  # EDM keeps its weights in float32
    dtype = torch.bfloat16 if casts else torch.float32
    runs.run_and_check(real, kind, SETTINGS[settings].split(), tmp_path, num_processes, dtype)


def test_fsdp_walks_the_path_by_gathered_weights_and_goes_on_from_its_checkpoint(
    real: Host, tmp_path: Path
) -> None:
    settings = ["--fsdp", "--use_fp16", *SD_GAN.split()]
    # DMD2 wraps its classifier whole, and each UNet: so does this size here
    runs.run_and_check_sharded(real, "sdxl", settings, tmp_path, 4120)


@more
@pytest.mark.parametrize(
    ("kind", "num_processes"),
    [("sdxl", 1), ("edm", 1), ("sd15", 1), ("sdxl", 2), ("edm", 2), ("sd15", 2)],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    real: Host, tmp_path: Path, kind: str, num_processes: int
) -> None:
    runs.kill_and_resume(real, kind, tmp_path, num_processes)
