"""Stable Diffusion 1.5, 2.1 and SDXL as networks on latents, with or without a LoRA."""

from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.diffusion import TextCondition, refuse_mask
from disback_plugin.errors import CheckpointError, DisBackError
from disback_plugin.pretrained.diffusers.lora import fuse_lora

VAE_FACTOR = 8  # pixels a latent, of all Stable Diffusion models: SDXL is told the size in pixels


class TextUNet(nn.Module):
    """A `UNet2DConditionModel` as a network(x, t, cond) with cond a TextCondition.

    SDXL is told that images are whole and of the size that they have: its six time ids.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self.is_sdxl = unet.config.addition_embed_type == "text_time"

    def forward(self, x: Tensor, t: Tensor, cond: TextCondition | None) -> Tensor:
        """x (B, C, H, W) latents, t (B,), cond of B prompts -> the prediction (B, C, H, W).

        Raises DisBackError where encoded prompts are missing or another model's.
        """
        if not isinstance(cond, TextCondition):
            seen = "none" if cond is None else f"a {type(cond).__name__}"
            raise DisBackError(
                f"this model needs encoded prompts, not {seen}: load_text_encoder(spec)(prompts)"
            )
        if self.is_sdxl != (cond.pooled is not None):
            raise DisBackError("the prompts were encoded for another model: use its own encoder")
        refuse_mask(cond)
        hidden, added = cond.hidden.to(x.dtype), None
        if cond.pooled is not None:
            height, width = (VAE_FACTOR * size for size in x.shape[-2:])
            ids = torch.tensor([height, width, 0, 0, height, width], device=x.device)
            added = {
                "text_embeds": cond.pooled.to(x.dtype),
                "time_ids": ids.to(x.dtype).expand(len(x), -1),
            }
        return self.unet(x, t, encoder_hidden_states=hidden, added_cond_kwargs=added).sample


def make_text_network(unet: Any, where: str, lora: str | None) -> TextUNet:
    """The network of a text model; CheckpointError for a U-Net that needs more than text.

    where: it lies, for messages.
    """
    config = unet.config
    if config.in_channels != config.out_channels:
        raise CheckpointError(
            f"{where}: the U-Net takes {config.in_channels} channels and makes "
            f"{config.out_channels}: it needs an image besides the text"
        )
    for name in ("class_embed_type", "time_cond_proj_dim", "num_class_embeds"):
        if getattr(config, name) is not None:
            raise CheckpointError(f"{where}: a U-Net with {name} is not supported")
    if config.addition_embed_type not in (None, "text_time"):
        raise CheckpointError(
            f"{where}: a U-Net with addition_embed_type={config.addition_embed_type!r} is not "
            "supported"
        )
    if config.encoder_hid_dim_type not in (None, "text_proj"):
        raise CheckpointError(
            f"{where}: a U-Net with encoder_hid_dim_type={config.encoder_hid_dim_type!r} is not "
            "supported"
        )
    if lora is not None:
        fuse_lora(unet, lora)
    return TextUNet(unet)
