"""Small host: one-step generator and guidance."""

import contextlib

import torch
from main.sd_guidance import Network, SDGuidance
from torch import nn


class SDUniModel(nn.Module):
    def __init__(self, args, accelerator):
        super().__init__()
        self.accelerator = accelerator
        self.guidance_model = SDGuidance(args, accelerator)
        self.feedforward_model = Network().requires_grad_(True)
        autocast = torch.autocast(device_type="cuda", dtype=torch.bfloat16)
        self.context = autocast if args.use_fp16 else contextlib.nullcontext()

    def forward(
        self,
        noise,
        text,
        uncond=None,
        denoising_dict=None,
        compute_generator_gradient=True,
        generator_turn=False,
        made=None,
    ):
        if not generator_turn:
            return self.guidance_model(made["image"], made["text_embedding"], False), {}
        text = text.float() / 12
        times = torch.full((len(noise),), 999, device=noise.device)
        keeps = contextlib.nullcontext if compute_generator_gradient else torch.no_grad
        with self.context, keeps():
            sample = noise - self.feedforward_model(noise, times, text).sample.float()
        made = {"image": sample.detach(), "text_embedding": text, "unet_added_conditions": None}
        if not compute_generator_gradient:
            return None, {"guidance_data_dict": made}
        self.guidance_model.requires_grad_(False)
        loss = self.guidance_model(sample, text, True)
        self.guidance_model.requires_grad_(True)
        return loss, {"guidance_data_dict": made}
