"""Small host: one-step generator and guidance."""

import contextlib

import torch
from main.sd_guidance import SDGuidance, network
from torch import nn


class SDUniModel(nn.Module):
    def __init__(self, args, accelerator):
        super().__init__()
        self.guidance_model = SDGuidance(args, accelerator)
        self.feedforward_model = network().requires_grad_(True)
        autocast = torch.autocast(device_type="cuda", dtype=torch.bfloat16)
        self.context = autocast if args.use_fp16 else contextlib.nullcontext()

    def forward(self, noise, with_gradient, sample=None):
        if sample is not None:
            return self.guidance_model(sample, student_turn=False), sample
        inputs = torch.cat([noise, torch.ones_like(noise[:, :1])], dim=1)
        with self.context, contextlib.nullcontext() if with_gradient else torch.no_grad():
            sample = self.feedforward_model(inputs).float()
        if not with_gradient:
            return None, sample
        self.guidance_model.requires_grad_(False)
        loss = self.guidance_model(sample, student_turn=True)
        self.guidance_model.requires_grad_(True)
        return loss, sample.detach()
