"""Tiny SD3, Flux, Qwen-Image and Wan pipelines with random weights, by diffusers itself."""

from pathlib import Path
from typing import Any

import diffusers as untyped
import torch
import transformers
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    StableDiffusion3Pipeline,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from disback_plugin.lab.smoke.pipelines import LETTERS, text_config, tiny_tokenizer

diffusers: Any = untyped
HEADS = {"attention_head_dim": 8, "num_attention_heads": 2, "num_layers": 1}
TEXT = {"joint_attention_dim": 6, "pooled_projection_dim": 4}
NO_TEXT = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae")


def _random(network: Any) -> Any:
    """Some weights of a new transformer are zero."""
    for value in network.parameters():
        nn.init.normal_(value, std=0.2)
    return network.eval()


def tiny_t5(kind: str = "T5") -> dict[str, Any]:
    """An encoder of width 6 (`UMT5`: Wan's) and its tokenizer, of letters."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0)]
    vocabulary += [(letter, -2.0) for letter in LETTERS]
    sizes = {"d_model": 6, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(vocabulary), **sizes)
    encoder = getattr(transformers, f"{kind}EncoderModel")(config)
    return {
        "encoder": _random(encoder),
        "tokenizer": transformers.T5TokenizerFast(vocab=vocabulary, extra_ids=0),
    }


def tiny_qwen() -> dict[str, Any]:
    """Qwen2.5-VL of width 8, and a tokenizer of single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    text = {
        **{"vocab_size": len(tokens), "hidden_size": 8, "intermediate_size": 16},
        **{"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1},
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    }
    vision = {"depth": 1, "hidden_size": 8, "num_heads": 1, "intermediate_size": 8}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config={**vision, "out_hidden_size": 8}
    )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return {
        "text_encoder": _random(transformers.Qwen2_5_VLForConditionalGeneration(config)),
        "tokenizer": transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[]),
    }


def tiny_vae() -> Any:
    """Of SD3 and Flux: latents are shifted, eight pixels each."""
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=1.5,
        shift_factor=0.06,
    ).eval()


def video_vae(kind: str) -> Any:
    """`AutoencoderKLWan`, `AutoencoderKLQwenImage`."""
    levels = {"latents_mean": [-0.5, 0.1, 0.3, 0.0], "latents_std": [1.5, 0.8, 2.0, 1.0]}
    sizes = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    vae = getattr(diffusers, kind)(**sizes, **levels).eval()
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(10)  # a new one's images are nearly grey
    return vae


def save_sd3(
    folder: Path, text: bool = False, t5: bool = True, **scheduler: Any
) -> StableDiffusion3Pipeline:
    """An SD3 pipeline in `folder`, without text encoders and VAE unless `text`; also returned."""
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(1)
    size = {"sample_size": 8, "pos_embed_max_size": 8, "caption_projection_dim": 16}
    transformer = _random(
        SD3Transformer2DModel(in_channels=4, out_channels=4, **HEADS, **TEXT, **size)
    )
    parts: dict[str, Any] = dict.fromkeys((*NO_TEXT, "text_encoder_3", "tokenizer_3"))
    if text:
        parts |= {"vae": tiny_vae(), "tokenizer": tiny_tokenizer(), "tokenizer_2": tiny_tokenizer()}
        for name in ("text_encoder", "text_encoder_2"):
            parts[name] = CLIPTextModelWithProjection(text_config(2)).eval()
    if text and t5:
        made = tiny_t5()
        parts |= {"text_encoder_3": made["encoder"], "tokenizer_3": made["tokenizer"]}
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(**scheduler), **parts
    )
    pipeline.save_pretrained(folder)
    return pipeline


def save_flux(
    folder: Path, text: bool = False, guidance_embeds: bool = False, **scheduler: Any
) -> FluxPipeline:
    """A Flux pipeline in `folder`, without text encoders and VAE unless `text`; also returned."""
    torch.manual_seed(2)
    transformer = FluxTransformer2DModel(
        **{"in_channels": 16, "num_single_layers": 1, "axes_dims_rope": (2, 2, 4)},
        guidance_embeds=guidance_embeds,
        **HEADS,
        **TEXT,
    )
    _random(transformer)
    parts: dict[str, Any] = dict.fromkeys(NO_TEXT)
    if text:
        made = tiny_t5()
        parts = {
            "vae": tiny_vae(),
            "text_encoder": CLIPTextModel(text_config(4)).eval(),
            "tokenizer": tiny_tokenizer(),
            "text_encoder_2": made["encoder"],
            "tokenizer_2": made["tokenizer"],
        }
    pipeline = FluxPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(**scheduler), **parts
    )
    pipeline.save_pretrained(folder)
    return pipeline


def save_qwen_image(folder: Path, text: bool = False, **settings: Any) -> Any:
    """A Qwen-Image transformer and its scheduler in `folder`, returned; the pipeline if `text`."""
    torch.manual_seed(4)
    own = {"in_channels": 16, "out_channels": 4, "joint_attention_dim": 8 if text else 6}
    own |= {"axes_dims_rope": (2, 2, 4), **HEADS, **settings}
    transformer = _random(QwenImageTransformer2DModel(**own))
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    if text:
        pipeline = diffusers.QwenImagePipeline(
            transformer=transformer,
            scheduler=scheduler,
            vae=video_vae("AutoencoderKLQwenImage"),
            **tiny_qwen(),
        )
        pipeline.save_pretrained(folder)
        return pipeline
    transformer.save_pretrained(folder / "transformer")
    scheduler.save_pretrained(folder / "scheduler")
    return transformer


def save_wan(folder: Path, text: bool = False, **settings: Any) -> Any:
    """A Wan transformer and its scheduler in `folder`, returned; the whole pipeline if `text`."""
    torch.manual_seed(3)
    transformer = _random(
        WanTransformer3DModel(
            **{"in_channels": 4, "out_channels": 4, "text_dim": 6, "freq_dim": 8, "ffn_dim": 16},
            **HEADS,
            **settings,
        )
    )
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    if text:
        made = tiny_t5("UMT5")
        pipeline = diffusers.WanPipeline(
            transformer=transformer,
            scheduler=scheduler,
            vae=video_vae("AutoencoderKLWan"),
            text_encoder=made["encoder"],
            tokenizer=made["tokenizer"],
        )
        pipeline.save_pretrained(folder)
        return pipeline
    transformer.save_pretrained(folder / "transformer")
    scheduler.save_pretrained(folder / "scheduler")
    return transformer
