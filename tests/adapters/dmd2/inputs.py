"""The smallest random inputs that DMD2's training scripts accept."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from disback_plugin.lab.data import write_image_lmdb, write_latent_lmdb

LATENT = 8  # latent side; two UNet levels, so the middle block sees 4x4
LATENT_CHANNELS = 4
TEXT_DIM = 8
MAX_TOKENS = 16
UNET_CHANNELS = (8, 16)
EDM_SIDE = 16
EDM_LABELS = 4
EDM_CHANNELS = 16
WORDS = ["red", "blue", "dog", "cat", "house", "tree", "sea", "old", "big", "photo"]
START, END = "<|startoftext|>", "<|endoftext|>"


def edm_config() -> dict:
    """What stands in for DMD2's fixed ImageNet network (296 M parameters)."""
    return {
        "augment_dim": 0,
        "model_channels": EDM_CHANNELS,
        "channel_mult": [1, 2],
        "channel_mult_emb": 2,
        "num_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
        "label_dropout": 0,
    }


def make_inputs(folder: Path, num_rows: int, edm_checkout: Path | None = None) -> None:
    """Write sdxl/, sd15/, prompts.txt, latents_lmdb/ and, with a checkout, edm/ into `folder`.

    edm/tiny_edm.pkl carries the source of the checkout's network: it never leaves this folder.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    prompts = [" ".join(rng.permutation(WORDS)[:3]) for _ in range(num_rows)]
    (folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
    for name in ("sdxl", "sd15"):
        make_pipeline(folder / name, sdxl=name == "sdxl")
    latents = rng.standard_normal((num_rows, LATENT_CHANNELS, LATENT, LATENT)).astype(np.float16)
    write_latent_lmdb(folder / "latents_lmdb", zip(latents, prompts, strict=True))
    if edm_checkout is not None:
        (folder / "edm").mkdir()
        images = rng.integers(0, 256, (num_rows, 3, EDM_SIDE, EDM_SIDE), dtype=np.uint8)
        labels = rng.integers(0, EDM_LABELS, num_rows)
        rows = zip(images, map(int, labels), strict=True)
        write_image_lmdb(folder / "edm" / "images_lmdb", rows)
        _make_edm(folder / "edm" / "tiny_edm.pkl", edm_checkout)


def _byte_alphabet() -> list[str]:
    """The printable stand-ins of byte-level BPE for the 256 bytes, in CLIP's order."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, spare = {byte: chr(byte) for byte in keep}, 256
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(spare)
            spare += 1
    return [table[byte] for byte in keep] + [table[byte] for byte in range(256) if byte not in keep]


def _write_tokenizer(folder: Path, pad: str) -> dict[str, int]:
    folder.mkdir(parents=True)
    letters = _byte_alphabet()
    vocabulary = letters + [letter + "</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
    vocabulary += [a + b for a, b in merges if a + b not in vocabulary] + [START, END]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    lines = "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, **special}
    settings |= {"add_prefix_space": False, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return ids


def make_pipeline(folder: Path, sdxl: bool) -> None:
    """A Stable Diffusion folder of tiny random networks, without its model_index.json."""
    from diffusers import AutoencoderKL, DDIMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    encoders: list = [("", CLIPTextModel, END)]
    if sdxl:
        encoders.append(("_2", CLIPTextModelWithProjection, "!"))
    for suffix, encoder, pad in encoders:
        ids = _write_tokenizer(folder / f"tokenizer{suffix}", pad)
        config = CLIPTextConfig(
            vocab_size=len(ids),
            hidden_size=TEXT_DIM,
            intermediate_size=2 * TEXT_DIM,
            projection_dim=TEXT_DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=ids[START],
            eos_token_id=ids[END],
            pad_token_id=ids[END],
        )
        encoder(config).eval().save_pretrained(folder / f"text_encoder{suffix}")
    _make_unet(folder / "unet", sdxl)
    AutoencoderKL(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=2 * LATENT,
    ).eval().save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")


def _make_unet(folder: Path, sdxl: bool) -> None:
    from diffusers import UNet2DConditionModel

    extra: dict = {}
    if sdxl:
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + TEXT_DIM,
            "use_linear_projection": True,
        }
    UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=UNET_CHANNELS,
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * TEXT_DIM if sdxl else TEXT_DIM,
        attention_head_dim=2,
        **extra,
    ).save_pretrained(folder)


def _make_edm(file: Path, checkout: Path) -> None:
    sys.path.insert(0, str(checkout))
    try:
        from third_party.edm.training.networks import EDMPrecond
    finally:
        sys.path.remove(str(checkout))
    network = EDMPrecond(
        img_resolution=EDM_SIDE,
        img_channels=3,
        label_dim=EDM_LABELS,
        sigma_data=0.5,
        model_type="DhariwalUNet",
        **edm_config(),
    )
    with torch.no_grad():  # the output convolution starts at zero: stir it
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    with file.open("wb") as stream:
        pickle.dump({"ema": network.eval().requires_grad_(False)}, stream)
    other = {
        name: (300 if ".out_conv." in name else 1) * value
        for name, value in network.state_dict().items()
    }
    _write_student(file.parent / "unknown", other)


def make_small_student(folder: Path) -> None:
    """The small host's, of `train_edm.py`: what it makes is far from what its teacher has seen."""
    sizes = {"0.weight": (16, 6), "0.bias": (16,), "2.weight": (3, 16), "2.bias": (3,)}
    random = torch.Generator().manual_seed(0)
    _write_student(
        folder,
        {f"layers.{name}": 9 * torch.randn(size, generator=random) for name, size in sizes.items()},
    )


def _write_student(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True)
    torch.save(weights, folder / "pytorch_model.bin")


def make_knowing(folder: Path, pipeline: Path) -> None:
    """A copy of a tiny pipeline whose UNet was taught to tell noise from wide, normal latents.

    At half of its steps from noise alone, as a one-step generator starts.
    """
    from diffusers import DDIMScheduler, UNet2DConditionModel

    shutil.copytree(pipeline, folder)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    optimizer, num = torch.optim.Adam(unet.parameters(), lr=3e-3), 8
    scales = torch.tensor([3.0, 1.0]).reshape(2, 1, 1, 1, 1)  # its one-step samples are wide
    torch.manual_seed(0)
    for _ in range(300):
        x0, eps = torch.randn(2, num, LATENT_CHANNELS, LATENT, LATENT) * scales
        times = torch.randint(0, 1000, (num,))
        times[::2] = 999
        added = None
        if unet.config.addition_embed_type == "text_time":
            added = {"time_ids": torch.full((num, 6), 2.0 * LATENT)}
            added["text_embeds"] = torch.randn(num, TEXT_DIM)
        prompts = torch.randn(num, MAX_TOKENS, unet.config.cross_attention_dim)
        noisy = scheduler.add_noise(x0, eps, times)
        answer = unet(noisy, times, prompts, added_cond_kwargs=added).sample
        optimizer.zero_grad()
        (answer - eps).square().mean().backward()
        optimizer.step()
    unet.save_pretrained(folder / "unet")
