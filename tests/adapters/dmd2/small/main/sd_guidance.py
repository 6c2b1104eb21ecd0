"""Small host: real and fake score, two layers each."""

import contextlib

import torch
from torch import nn


def network():
    """The same bytes every time: what a pretrained file is to a real host."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 4))


class SDGuidance(nn.Module):
    def __init__(self, args, accelerator):
        super().__init__()
        self.real_unet = network().requires_grad_(False)
        self.fake_unet = network().requires_grad_(True)
        if args.use_fp16:
            self.real_unet = self.real_unet.to(torch.bfloat16)
        self.half = args.use_fp16
        autocast = torch.autocast(device_type="cuda", dtype=torch.bfloat16)
        self.context = autocast if args.use_fp16 else contextlib.nullcontext()

    def forward(self, sample, student_turn):
        level = torch.rand(len(sample), 1, device=sample.device)
        noise = torch.randn_like(sample)
        inputs = torch.cat([sample + level * noise, level], dim=1)
        if not student_turn:
            with self.context:
                guess = self.fake_unet(inputs)
            return ((guess.float() - sample) ** 2).mean()
        with torch.no_grad():
            given = inputs.to(torch.bfloat16) if self.half else inputs
            gap = self.fake_unet(inputs) - self.real_unet(given).float()
            gap = gap / gap.abs().mean().clamp_min(1e-3)
        with self.context:  # as a GAN loss does: through the fake score, to the sample
            critic = self.fake_unet(inputs).float().square().mean()
        return 0.5 * ((sample - (sample - gap).detach()) ** 2).mean() + 1e-2 * critic
