"""Small host: real and fake score, two layers each, and how they noise."""

import contextlib
from typing import NamedTuple

import torch
from torch import nn


class Answer(NamedTuple):
    sample: torch.Tensor


class Network(nn.Module):
    """The same bytes every time: what a pretrained file is to a real host."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.layers = nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 4))
        with torch.no_grad():
            self.layers[2].weight *= 5  # wrong by as much as the noise: it knows no sample

    def forward(self, x, times, text, added_cond_kwargs=None):
        level = (times / 1000).to(x.dtype).reshape(-1, 1) + text
        return Answer(self.layers(torch.cat([x.flatten(1), level], dim=1)).view_as(x))


class Scheduler:
    def add_noise(self, x, noise, times):
        signal = 1 - (times / 1001).reshape(-1, 1, 1, 1)
        return signal.sqrt() * x + (1 - signal).sqrt() * noise


class SDGuidance(nn.Module):
    min_step, max_step, num_train_timesteps = 20, 980, 1000

    def __init__(self, args, accelerator):
        super().__init__()
        self.args, self.scheduler = args, Scheduler()
        self.real_unet = Network().requires_grad_(False)
        self.fake_unet = Network().requires_grad_(True)
        if args.use_fp16:
            self.real_unet = self.real_unet.to(torch.bfloat16)
        autocast = torch.autocast(device_type="cuda", dtype=torch.bfloat16)
        self.context = autocast if args.use_fp16 else contextlib.nullcontext()

    def noised(self, sample):
        size = (len(sample),)
        times = torch.randint(self.min_step, self.max_step + 1, size, device=sample.device)
        noise = torch.randn_like(sample)
        return self.scheduler.add_noise(sample, noise, times), times, noise

    def both(self, sample, text):
        """What real and fake score say of the noise, and that noise."""
        noisy, times, noise = self.noised(sample)
        half = torch.bfloat16 if self.args.use_fp16 else torch.float32
        with torch.no_grad():
            real = self.real_unet(noisy.to(half), times, text.to(half)).sample.float()
            return real, self.fake_unet(noisy, times, text).sample, noise

    def forward(self, sample, text, student_turn):
        if not student_turn:
            noisy, times, noise = self.noised(sample)
            with self.context:
                guess = self.fake_unet(noisy, times, text).sample
            return ((guess.float() - noise) ** 2).mean()
        real, fake, _ = self.both(sample, text)
        gap = (real - fake) / (real - fake).abs().mean().clamp_min(1e-3)
        noisy, times, _ = self.noised(sample)
        with self.context:  # as a GAN loss does: through the fake score, to the sample
            critic = self.fake_unet(noisy, times, text).sample.float().square().mean()
        return 0.5 * ((sample - (sample - gap).detach()) ** 2).mean() + 1e-2 * critic
