"""Small host: the second script's networks are denoisers with labels and noise levels."""

import torch
from torch import nn


class Denoiser(nn.Module):
    """The same bytes every time: what a pretrained file is to a real host."""

    def __init__(self, args):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            sizes = nn.Linear(3 + args.label_dim, 16), nn.Linear(16, 3)
            self.layers = nn.Sequential(sizes[0], nn.SiLU(), sizes[1])

    def forward(self, x, sigma, labels):
        sigma = sigma.reshape(-1, 1, 1, 1)
        kept = 0.25 / (0.25 + sigma**2)
        seen = torch.cat([(x / (1 + sigma)).flatten(1), labels], dim=1)
        return kept * x + (1 - kept) * self.layers(seen).view_as(x)


class EDMGuidance(nn.Module):
    min_step, max_step, num_train_timesteps = 2, 98, 100

    def __init__(self, args):
        super().__init__()
        self.args = args
        self.real_unet = Denoiser(args).requires_grad_(False)
        self.fake_unet = Denoiser(args).requires_grad_(True)
        self.register_buffer("karras_sigmas", torch.logspace(-2, 2, self.num_train_timesteps))

    def noised(self, sample):
        size = (len(sample), 1, 1, 1)
        times = torch.randint(self.min_step, self.max_step + 1, size, device=sample.device)
        sigma = self.karras_sigmas[times]
        return sample + sigma * torch.randn_like(sample), sigma

    def both(self, sample, labels):
        """What real and fake score make of noised samples, and the noise levels."""
        noisy, sigma = self.noised(sample)
        with torch.no_grad():
            networks = (self.real_unet, self.fake_unet)
            return *(network(noisy, sigma, labels) for network in networks), sigma

    def forward(self, sample, labels, student_turn):
        if not student_turn:
            noisy, sigma = self.noised(sample)
            return ((self.fake_unet(noisy, sigma, labels) - sample) ** 2 / (1 + sigma)).mean()
        real, fake, _ = self.both(sample, labels)
        gap = (fake - real) / (fake - real).abs().mean().clamp_min(1e-3)
        noisy, sigma = self.noised(sample)
        critic = self.fake_unet(noisy, sigma, labels).square().mean()
        return 0.5 * ((sample - (sample - gap).detach()) ** 2).mean() + 1e-2 * critic


class EDMUniModel(nn.Module):
    def __init__(self, args, accelerator):
        super().__init__()
        self.accelerator = accelerator
        self.guidance_model = EDMGuidance(args)
        self.feedforward_model = Denoiser(args).requires_grad_(True)

    def forward(
        self,
        noise,
        sigma,
        labels,
        compute_generator_gradient=False,
        generator_turn=False,
        made=None,
    ):
        if not generator_turn:
            return self.guidance_model(made["image"], made["label"], False), {}
        with torch.set_grad_enabled(compute_generator_gradient):
            sample = self.feedforward_model(noise, sigma, labels)
        log = {"guidance_data_dict": {"image": sample.detach(), "label": labels}}
        if not compute_generator_gradient:
            return None, log
        self.guidance_model.requires_grad_(False)
        loss = self.guidance_model(sample, labels, True)
        self.guidance_model.requires_grad_(True)
        return loss, log
