# ruff: noqa: N801, N803
"""The fake score's denoising loss, and the student's: the two scores' difference."""

import torch


def noised(images):
    sigma = (1.2 * torch.randn(len(images), 1, 1, 1, device=images.device) - 1.2).exp()
    return images + sigma * torch.randn_like(images), sigma


class DI_EDMLoss:
    def __call__(self, net, images, labels, augment_pipe):
        y, sigma = noised(images)
        return (sigma**2 + 0.25) / sigma**2 * (net(y, sigma, labels) - images) ** 2

    def gloss(self, Sd, Sg, images, labels, augment_pipe):
        y, sigma = noised(images)
        Sd.train(), Sg.train()
        with torch.no_grad():
            cuda_rng_state = torch.cuda.get_rng_state()
            real = Sd(y, sigma, labels)
            torch.cuda.set_rng_state(cuda_rng_state)
            fake = Sg(y, sigma, labels)
        Sd.eval()
        return (fake - real) * images
