"""Students as their own trainers save them: the images are those that their networks make."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig

from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.sampling import sample
from disback_plugin.lab.sampling.store import Array
from disback_plugin.lab.smoke.pipelines import save_sd, save_sdxl
from disback_plugin.pretrained import load_denoiser
from tests.lab.sampling.conftest import Make, expected_bytes
from tests.pretrained.edm.cases import CASES
from tests.pretrained.files import tiny_edm, write_edm_pickle
from tests.upstreams import find_checkout

DIFF_INSTRUCT = find_checkout("diff_instruct", "training/networks.py")
# its own network and dictionary, pickled as its training loop does; its own answer beside
SNAPSHOT = """
import copy, pickle, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from training.networks import EDMPrecond
torch.manual_seed(0)
net = EDMPrecond(8, 3, label_dim=5, augment_dim=9, model_type="SongUNet", model_channels=8,
    num_blocks=1, channel_mult=[1, 2], attn_resolutions=[4])
with torch.no_grad():
    for value in net.parameters():
        value.add_(0.1 * torch.randn(value.shape))
net = net.eval().requires_grad_(False)
with open(sys.argv[2] + "/network-snapshot-000001.pkl", "wb") as file:
    pickle.dump(dict(ema=net, Sg=copy.deepcopy(net)), file)
generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
z = torch.stack([torch.randn(3, 8, 8, generator=g) for g in generators])
labels = torch.stack([torch.randint(5, (), generator=g) for g in generators])
sigma = torch.ones(4, 1, 1, 1)
images = net(z, sigma, torch.eye(5)[labels], augment_labels=torch.zeros(4, 9))
np.save(sys.argv[2] + "/images.npy", images.numpy())
"""


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdxl") / "base"
    save_sdxl(folder)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\ntwo dogs\na row of houses\n")
    return file


def made(sampler: Any, out: Path) -> Array:
    sample(sampler, out.with_suffix(".npz"), 2)
    return np.load(out.with_suffix(".npz"))["arr_0"]


def one_step(pipe: Any, unet: Any, t: int, num: int) -> torch.Tensor:
    """x0 = (z - sqrt(1 - ab) eps) / sqrt(ab), decoded: DMD2's and SwiftBrush's student."""
    texts = ["a cat", "two dogs", "a row of houses"]
    bar = pipe.scheduler.alphas_cumprod[t].double()
    rows = []
    for seed in range(num):
        z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        text = pipe.encode_prompt(
            texts[seed % 3],
            device="cpu",
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        added = None
        if isinstance(pipe, StableDiffusionXLPipeline):
            ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
            added = {"text_embeds": text[2], "time_ids": ids}
        with torch.no_grad():
            eps = unet(z, t, encoder_hidden_states=text[0], added_cond_kwargs=added).sample
            x0 = ((z - (1 - bar).sqrt() * eps) / bar.sqrt()).float()
            rows.append(pipe.vae.decode(x0 / pipe.vae.config.scaling_factor).sample)
    return torch.cat(rows)


def other_weights(unet: Any) -> Any:
    """As after a training."""
    torch.manual_seed(5)
    with torch.no_grad():
        for value in unet.parameters():
            value.add_(0.05 * torch.randn(value.shape))
    return unet


def levels_apart(found: Array, expected: torch.Tensor) -> int:
    wanted = expected_bytes(expected).numpy()
    assert found.shape == wanted.shape
    return int(np.abs(found.astype(int) - wanted.astype(int)).max())


@pytest.mark.slow
@pytest.mark.skipif(DIFF_INSTRUCT is None, reason="no checkout of Diff-Instruct")
def test_a_snapshot_of_diff_instruct(sampler: Make, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SNAPSHOT, str(DIFF_INSTRUCT), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    student = sampler("0-3", f"edm-pkl:{tmp_path}/network-snapshot-000001.pkl", sigma=1.0)
    expected = torch.from_numpy(np.load(tmp_path / "images.npy"))
    assert levels_apart(made(student, tmp_path / "out"), expected) == 0


def test_dmd2s_edm_student_lacks_the_weights_of_augmentation(sampler: Make, tmp_path: Path) -> None:
    """DMD2 deletes `map_augment` and saves the rest of the EDMPrecond, without its arguments."""
    write_edm_pickle(tmp_path / "teacher.pkl")
    assert CASES["ddpmpp-both-labels"].augmented
    trained = other_weights(tiny_edm("ddpmpp-both-labels"))
    state = {k: v for k, v in trained.state_dict().items() if "map_augment" not in k}
    assert len(state) == len(trained.state_dict()) - 1
    folder = tmp_path / "checkpoint_model_000100"
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin")
    base = f"edm-pkl:{tmp_path}/teacher.pkl"
    student = sampler("0-3", f"weights:{folder}", base=base, labels="balanced")
    z = torch.stack(
        [torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    )
    with torch.no_grad():
        expected = trained(80 * z, torch.full((4,), 80.0), torch.arange(4))
    assert levels_apart(made(student, tmp_path / "out"), expected) == 0
    del state[next(iter(state))]
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="does not hold the weights of .*missing"):
        sampler("0-3", f"weights:{folder}", base=base)
    with pytest.raises(ConfigError, match="does not tell what network it is for: give base="):
        sampler("0-3", f"weights:{folder}")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_dmd2s_sdxl_student(
    name: str, sampler: Make, sdxl: Path, prompts: Path, tmp_path: Path
) -> None:
    """As it is asked there: noise of variance 1 at timestep 399."""
    pipe = StableDiffusionXLPipeline.from_pretrained(sdxl)
    unet = other_weights(pipe.unet)
    folder = tmp_path / "checkpoint_model_024000"
    folder.mkdir()
    if name.endswith(".bin"):
        torch.save(unet.state_dict(), folder / name)
    else:
        from safetensors.torch import save_file

        save_file(unet.state_dict(), folder / name)
    spec, base = f"weights:{folder}", f"diffusers:{sdxl}"
    student = sampler("0-3", spec, base=base, timestep=399, prompts=prompts)
    found = made(student, tmp_path / "out")
    assert levels_apart(found, one_step(pipe, unet, 399, 4)) <= 1
    assert len({image.tobytes() for image in found}) == 4


def test_dmd2s_lora_student(sampler: Make, sdxl: Path, prompts: Path, tmp_path: Path) -> None:
    """peft's layers inside the U-Net, saved with it; the scale is an option of the training."""
    pipe = StableDiffusionXLPipeline.from_pretrained(sdxl)
    unet = UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet")
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "time_emb_proj", "proj_in"]
    unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    torch.manual_seed(3)
    with torch.no_grad():
        for key, value in unet.named_parameters():
            if ".lora_" in key:
                value.normal_(0, 0.2)
    torch.save(unet.state_dict(), tmp_path / "pytorch_model.bin")
    spec, base = f"weights:{tmp_path}/pytorch_model.bin", f"diffusers:{sdxl}"
    plain = one_step(pipe, pipe.unet, 399, 2)
    student = sampler("0-1", spec, base=base, lora_alpha=8, timestep=399, prompts=prompts)
    found = made(student, tmp_path / "out")
    assert levels_apart(found, one_step(pipe, unet, 399, 2)) <= 1
    assert levels_apart(found, plain) > 1
    with pytest.raises(ConfigError, match=r"holds a LoRA, whose scale .* give lora_alpha"):
        sampler("0-1", spec, base=base, timestep=399, prompts=prompts)


def test_swiftbrushs_student(sampler: Make, prompts: Path, tmp_path: Path) -> None:
    """A checkpoint's `unet/` without a scheduler, or the pipeline that its training ends with."""
    pipe = save_sd(tmp_path / "sd")
    unet = other_weights(pipe.unet)
    unet.save_pretrained(tmp_path / "checkpoint-5" / "unet")
    base = f"diffusers:{tmp_path}/sd"
    expected = one_step(pipe, unet, 999, 3)
    spec = f"weights:{tmp_path}/checkpoint-5"
    student = sampler("0-2", spec, base=base, timestep=999, prompts=prompts)
    assert levels_apart(made(student, tmp_path / "from-checkpoint"), expected) <= 1
    pipe.save_pretrained(tmp_path / "final")
    student = sampler("0-2", f"diffusers:{tmp_path}/final", timestep=999, prompts=prompts)
    assert levels_apart(made(student, tmp_path / "from-final"), expected) <= 1


def test_a_sharded_student_is_read_whole_or_not_at_all(
    sampler: Make, sdxl: Path, prompts: Path, tmp_path: Path
) -> None:
    unet = other_weights(UNet2DConditionModel.from_pretrained(sdxl, subfolder="unet"))
    unet.save_pretrained(tmp_path / "unet", max_shard_size="100KB")
    shards = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    loaded = load_denoiser(f"weights:{tmp_path}/unet", base=f"diffusers:{sdxl}")
    own = loaded.network.unet.state_dict()
    assert all(torch.equal(own[name], value) for name, value in unet.state_dict().items())
    shards[0].unlink()
    with pytest.raises(CheckpointError, match=r"holds \d of \d files of its model"):
        load_denoiser(f"weights:{tmp_path}/unet", base=f"diffusers:{sdxl}")
