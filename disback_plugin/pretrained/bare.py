"""The module inside a denoiser whose tensor names published files of weights have."""

from torch import nn

from disback_plugin.diffusion import Denoiser, GuidedNetwork


def bare_module(denoiser: Denoiser) -> nn.Module:
    """diffusers' own U-Net where there is one, else (EDM, our networks) the denoiser itself."""
    network = getattr(denoiser, "network", None)
    if isinstance(network, GuidedNetwork):
        network = network.network
    unet = getattr(network, "unet", None)
    of_diffusers = type(unet).__module__.startswith("diffusers.")
    return unet if isinstance(unet, nn.Module) and of_diffusers else denoiser
