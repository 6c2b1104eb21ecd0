"""Tiny SD3, Flux, Qwen-Image and Wan transformers with random weights, by diffusers itself."""

from pathlib import Path
from typing import Any

import torch
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

HEADS = {"attention_head_dim": 8, "num_attention_heads": 2, "num_layers": 1}
TEXT = {"joint_attention_dim": 6, "pooled_projection_dim": 4}
NO_TEXT = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae")


def _random(network: Any) -> Any:
    """Some weights of a new transformer are zero."""
    for value in network.parameters():
        nn.init.normal_(value, std=0.2)
    return network.eval()


def save_sd3(folder: Path, **scheduler: Any) -> StableDiffusion3Pipeline:
    """An SD3 pipeline without text encoders in `folder`; also returned."""
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(1)
    size = {"sample_size": 8, "pos_embed_max_size": 8, "caption_projection_dim": 16}
    pipeline = StableDiffusion3Pipeline(
        transformer=_random(
            SD3Transformer2DModel(in_channels=4, out_channels=4, **HEADS, **TEXT, **size)
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
        **dict.fromkeys((*NO_TEXT, "text_encoder_3", "tokenizer_3")),
    )
    pipeline.save_pretrained(folder)
    return pipeline


def save_flux(folder: Path, guidance_embeds: bool = False, **scheduler: Any) -> FluxPipeline:
    """A Flux pipeline without text encoders in `folder`; also returned."""
    torch.manual_seed(2)
    transformer = FluxTransformer2DModel(
        **{"in_channels": 16, "num_single_layers": 1, "axes_dims_rope": (2, 2, 4)},
        guidance_embeds=guidance_embeds,
        **HEADS,
        **TEXT,
    )
    pipeline = FluxPipeline(
        transformer=_random(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
        **dict.fromkeys(NO_TEXT),
    )
    pipeline.save_pretrained(folder)
    return pipeline


def save_qwen_image(folder: Path, **settings: Any) -> QwenImageTransformer2DModel:
    """A Qwen-Image transformer and its scheduler in `folder`; also returned."""
    torch.manual_seed(4)
    own = {"in_channels": 16, "out_channels": 4, "joint_attention_dim": 6}
    own |= {"axes_dims_rope": (2, 2, 4), **HEADS, **settings}
    transformer = _random(QwenImageTransformer2DModel(**own))
    transformer.save_pretrained(folder / "transformer")
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    scheduler.save_pretrained(folder / "scheduler")
    return transformer


def save_wan(folder: Path, **settings: Any) -> WanTransformer3DModel:
    """A Wan transformer and its scheduler in `folder`, as its pipelines lie; also returned."""
    torch.manual_seed(3)
    transformer = _random(
        WanTransformer3DModel(
            **{"in_channels": 4, "out_channels": 4, "text_dim": 6, "freq_dim": 8, "ffn_dim": 16},
            **HEADS,
            **settings,
        )
    )
    transformer.save_pretrained(folder / "transformer")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ).save_pretrained(folder / "scheduler")
    return transformer
