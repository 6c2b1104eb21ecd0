"""Tiny pipelines of images and text, and a LoRA: random weights, saved by diffusers itself."""

from pathlib import Path
from typing import Any

import diffusers as untyped
import torch
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

diffusers: Any = untyped  # its classes have what its types do not tell
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SD_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def tiny_tokenizer() -> CLIPTokenizer:
    """Letters are the tokens."""
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )


def text_unet(width: int, **settings: Any) -> Any:
    """A U-Net of 4x8x8 latents that attends to text of `width`."""
    torch.manual_seed(1)
    return diffusers.UNet2DConditionModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "attention_head_dim": 4,
            "cross_attention_dim": width,
            **settings,
        }
    ).eval()


def save_sd(folder: Path, **scheduler: Any) -> Any:
    """An SD pipeline in `folder`; also returned."""
    torch.manual_seed(0)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2),
        text_encoder=CLIPTextModel(text_config(16)).eval(),
        tokenizer=tiny_tokenizer(),
        unet=text_unet(16),
        scheduler=diffusers.DDIMScheduler(
            **SD_BETAS, clip_sample=False, steps_offset=1, **scheduler
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return pipeline


def save_sdxl(folder: Path) -> Any:
    """An SDXL pipeline in `folder`; also returned."""
    torch.manual_seed(0)
    first, second = text_config(16), text_config(8)
    unet = text_unet(
        24,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=8 + 6 * 4,
    )
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=(4, 4, 4, 4),
            norm_num_groups=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ),
        text_encoder=CLIPTextModel(first).eval(),
        text_encoder_2=CLIPTextModelWithProjection(second).eval(),
        tokenizer=tiny_tokenizer(),
        tokenizer_2=tiny_tokenizer(),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(**SD_BETAS, clip_sample=False, steps_offset=1),
    )
    pipeline.save_pretrained(folder)
    return pipeline


def tiny_unet(**settings: Any) -> Any:
    """A U-Net of 8x8 RGB images with about 45,000 weights."""
    torch.manual_seed(1)
    return diffusers.UNet2DModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "attention_head_dim": 4,
            **settings,
        }
    ).eval()


def save_ddpm(folder: Path, unet: Any | None = None, **scheduler: Any) -> Any:
    """A DDPMPipeline in `folder`; returns its scheduler."""
    made = diffusers.DDPMScheduler(**{"clip_sample": False, **scheduler})
    diffusers.DDPMPipeline(unet=unet or tiny_unet(), scheduler=made).save_pretrained(folder)
    return made


def save_lora(folder: Path, unet: Any) -> tuple[Path, Path]:
    """A LoRA that is not zero in diffusers' format, and the same in kohya's, as LCM-LoRA has it."""
    torch.manual_seed(4)
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "conv1"]))
    for name, value in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    state = {f"unet.{name}": v.contiguous() for name, v in get_peft_model_state_dict(unet).items()}
    unet.unload_lora()
    save_file(state, folder / "lora.safetensors", metadata={"format": "pt"})
    kohya = {
        name.replace("lora_unet_unet_", "lora_unet_"): value.clone()
        for name, value in convert_state_dict_to_kohya(
            {name.replace("unet.", "unet.", 1): value for name, value in state.items()}
        ).items()
    }
    save_file(kohya, folder / "kohya.safetensors", metadata={"format": "pt"})
    return folder / "lora.safetensors", folder / "kohya.safetensors"
