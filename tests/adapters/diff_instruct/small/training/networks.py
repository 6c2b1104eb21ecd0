"""A denoiser of two layers."""

import torch
from torch import nn


class EDMPrecond(nn.Module):
    def __init__(self, img_resolution, img_channels, label_dim, model_channels, **_):
        super().__init__()
        size, width = img_channels * img_resolution**2, 4 * model_channels
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.label_dim = label_dim
        self.inward = nn.Linear(size + label_dim, width)
        self.dropout = nn.Dropout(0.13)
        self.outward = nn.Linear(width, size)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x, sigma, labels, augment_labels=None):
        weight = self.scale**2 / (self.scale**2 + sigma**2)
        hidden = torch.cat([x.flatten(1) / (1 + sigma.flatten(1)), labels], dim=1)
        hidden = self.outward(self.dropout(torch.tanh(self.inward(hidden))))
        return weight * x + (1 - weight) * hidden.view_as(x)
