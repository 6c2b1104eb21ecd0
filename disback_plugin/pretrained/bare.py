"""The module inside a denoiser whose tensor names published files of weights have."""

from torch import nn

from disback_plugin.diffusion import Denoiser, GuidedNetwork


def bare_module(denoiser: Denoiser) -> nn.Module:
    """diffusers' own U-Net or transformer, else (EDM, our networks) the denoiser itself."""
    network = getattr(denoiser, "network", None)
    if isinstance(network, GuidedNetwork):
        network = network.network
    inner = getattr(network, "unet", None) or getattr(network, "transformer", None)
    of_diffusers = type(inner).__module__.startswith("diffusers.")
    return inner if isinstance(inner, nn.Module) and of_diffusers else denoiser
