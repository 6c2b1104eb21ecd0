"""The table of hosts: every case goes through the same tests, see `test_hosts.py`.

The small hosts of our own run everywhere, and so does Model Optimizer, a package: some of their
cases in `make test-slow` only. The other real ones need a checkout in third_party/ or in the folder
DISBACK_UPSTREAMS; a few of their cases run by default, all with DISBACK_HOSTS=all.
"""

import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch

SD_GAN = "--cls_on_clean_image --gen_cls_loss --gen_cls_loss_weight 5e-3 --diffusion_gan "
SD_GAN += "--guidance_cls_loss_weight 1e-2 --diffusion_gan_max_timestep 1000"
EDM_GAN = "--gan_classifier --cls_loss_weight 1e-2 --gen_cls_loss_weight 3e-3 --diffusion_gan "
EDM_GAN += "--diffusion_gan_max_timestep 1000"
BF16_GAN = f"--use_fp16 {SD_GAN} --dfake_gen_update_ratio 2"
BF16_EDM_GAN = f"--use_fp16 {EDM_GAN} --dfake_gen_update_ratio 2"
SHARDED = "--fsdp --use_fp16"
SHARDED_GAN = f"{SHARDED} {SD_GAN}"
FOUR_STEPS = "--denoising --num_denoising_step 4 --denoising_timestep 1000 --backward_simulation"
LORA_FOUR_STEPS = f"--generator_lora --lora_rank 2 {FOUR_STEPS} {SD_GAN}"
SHARDED_LORA = f"{SHARDED} {LORA_FOUR_STEPS}"
CHECKPOINTING = f"--gradient_checkpointing --use_fp16 {SD_GAN}"
ACCUMULATED = "--gradient_accumulation_steps 2 --use_ema --mixed_precision bf16"
GUIDED = "model.guidance_scale=2.0"
PIPELINE_GAN = "gan_loss_weight_gen=0.1 gan_r1_reg_weight=1.0 guidance_scale=2.0"
BACKWARD = "pred_type=eps fake_score_pred_type=eps student_sample_steps=2 backward_simulation=true"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Runs of one host, small or real, with the same options.

    kind: the script, network or method where a host has several; dtype: of the real score;
    shard_from: FSDP, wrapping modules of at least so many parameters, or fully_shard; brief:
    nothing is killed; automatic: recording and walk by a measure are run too.
    """

    name: str
    host: str
    real: bool = False
    kind: str = ""
    options: str = ""
    num_processes: int = 1
    dtype: torch.dtype = torch.float32
    shard_from: int = 0
    brief: bool = False
    automatic: bool = False


def _small(host: str, label: str = "", **settings: Any) -> Case:
    return Case(name=f"small-{host}{label and f'-{label}'}", host=host, **settings)


def _real(host: str, label: str = "", **settings: Any) -> Case:
    return Case(name=f"real-{host}{label and f'-{label}'}", host=host, real=True, **settings)


BF16 = torch.bfloat16
AUTO = {"automatic": True}
TWO = {"num_processes": 2}
BY_DEFAULT = (
    _small("dmd2", "edm", kind="edm", options="--dfake_gen_update_ratio 2", **AUTO),
    _small("dmd2", "sd-2", kind="sd", options="--use_fp16", dtype=BF16, **TWO),
    _small("dmd2", "fsdp", kind="sd", shard_from=100, options=SHARDED, dtype=BF16, **TWO, **AUTO),
    _small("diff_instruct", **AUTO),
    _small("swiftbrush", "accumulated", options=ACCUMULATED, **AUTO),
    _small("fastgen"),
    _small("fastgen", "guided", options=GUIDED, brief=True),
    _real("dmd2", "edm", kind="edm", **AUTO),
    _real("dmd2", "sdxl-bf16-gan", kind="sdxl", options=BF16_GAN, dtype=BF16, **AUTO),
    # DMD2 wraps its classifier whole, and each UNet: so does this size here
    _real(
        "dmd2", "fsdp", kind="sdxl", shard_from=4120, options=SHARDED_GAN, dtype=BF16, **TWO, **AUTO
    ),
    _real("diff_instruct", **AUTO),
    _real("diff_instruct", "2", **TWO, **AUTO),
    _real("swiftbrush", "accumulated", options=ACCUMULATED, **AUTO),
    _real("swiftbrush", "2", **TWO, **AUTO),
    _real("fastgen"),
    _real("fastgen", "guided", options=GUIDED, brief=True),
    _real("fastgen", "2", **TWO),
    _real("fastgen", "f-distill", kind="f_distill", brief=True),
    _real("modelopt", options="guidance_scale=2.0"),
    _real("modelopt", "gan", options=f"{PIPELINE_GAN} pred_type=v"),
)
THOROUGH = (
    _small("dmd2", "sd", kind="sd", **AUTO),
    _small("dmd2", "edm-2", kind="edm", **TWO, **AUTO),
    _small("diff_instruct", "2", **TWO, **AUTO),
    _small("fastgen", "2", **TWO),
    _real("modelopt", "backward-2", options=BACKWARD, **TWO),
    _real("modelopt", "bf16", options="guidance_scale=2.0", dtype=BF16),
    _real("modelopt", "fsdp2", options="guidance_scale=2.0", shard_from=1, **TWO),
)
MORE = (
    _small("swiftbrush", "2", **TWO, **AUTO),
    _real("dmd2", "sd15", kind="sd15", **AUTO),
    _real("dmd2", "sdxl", kind="sdxl"),
    _real("dmd2", "sdxl-2", kind="sdxl", **TWO),
    _real("dmd2", "sd15-2", kind="sd15", **TWO),
    _real("dmd2", "edm-2", kind="edm", **TWO, **AUTO),
    _real("dmd2", "sdxl-lora-4step", kind="sdxl", options=LORA_FOUR_STEPS, **AUTO),
    _real(
        "dmd2", "fsdp-lora", kind="sdxl", shard_from=4120, options=SHARDED_LORA, dtype=BF16, **TWO
    ),
    _real("dmd2", "sdxl-4step", kind="sdxl", options=FOUR_STEPS),
    _real("dmd2", "sd15-checkpointing", kind="sd15", options=CHECKPOINTING, dtype=BF16),
    # EDM keeps its weights in float32
    _real("dmd2", "edm-gan", kind="edm", options=BF16_EDM_GAN),
    _real("dmd2", "sdxl-bf16-gan-2", kind="sdxl", options=BF16_GAN, dtype=BF16, **TWO),
    _real("swiftbrush", "plain"),
    _real("swiftbrush", "checkpointing", options="--gradient_checkpointing --set_grads_to_none"),
    _real("swiftbrush", "accumulated-2", options=ACCUMULATED, **TWO),
    _real("modelopt", "gan-2", options=PIPELINE_GAN, **TWO),
    _real("modelopt", "x0", options="pred_type=x0 fake_score_pred_type=flow", brief=True),
)
CASES = (*BY_DEFAULT, *THOROUGH, *MORE)


def cases(host: str = "", brief: bool = True, **wanted: Any) -> Any:
    """Parametrises a test by its argument `runs`: over all cases, or those that are wanted."""
    left_out = pytest.mark.skipif(
        os.environ.get("DISBACK_HOSTS") != "all", reason="DISBACK_HOSTS=all"
    )
    chosen = []
    for case in CASES:
        fits = all(getattr(case, name) == value for name, value in wanted.items())
        if fits and host in ("", case.host) and (brief or not case.brief):
            marks = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group(case.name)]
            marks += [left_out] if case in MORE else []
            marks += [pytest.mark.thorough] if case in THOROUGH else []
            chosen.append(pytest.param(case, id=case.name, marks=marks))
    return pytest.mark.parametrize("runs", chosen, indirect=True)
