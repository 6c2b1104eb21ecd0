# ruff: noqa: N801, N803
"""The fake score's denoising loss, and the student's: the two scores' difference."""

import torch


class DI_EDMLoss:
    P_mean, P_std = -1.2, 1.2

    def noised(self, images):
        levels = torch.randn(len(images), 1, 1, 1, device=images.device)
        sigma = (self.P_std * levels + self.P_mean).exp()
        return images + sigma * torch.randn_like(images), sigma

    def __call__(self, net, images, labels, augment_pipe):
        y, sigma = self.noised(images)
        return (sigma**2 + 0.25) / sigma**2 * (net(y, sigma, labels) - images) ** 2

    def gloss(self, Sd, Sg, images, labels, augment_pipe):
        y, sigma = self.noised(images)
        Sd.train(), Sg.train()
        with torch.no_grad():
            cuda_rng_state = torch.cuda.get_rng_state()
            real = Sd(y, sigma, labels)
            torch.cuda.set_rng_state(cuda_rng_state)
            fake = Sg(y, sigma, labels)
        Sd.eval()
        return (fake - real) * images
