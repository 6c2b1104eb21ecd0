"""OpenAI's own U-Net and denoiser, run on the CPU without what they only need for training."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from disback_plugin.lab.smoke.openai import Config
from tests.upstreams import find_checkout

CHECKOUT = find_checkout("consistency_models", "cm/unet.py")


class PlainFlashAttention(nn.Module):
    """flash_attn's module for qkv (B, S, 3, heads, width), in float32 and without its kernels."""

    def __init__(self, attention_dropout: float, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        assert attention_dropout == 0

    def forward(
        self, qkv: Tensor, key_padding_mask: None, need_weights: bool, causal: bool
    ) -> tuple[Tensor, None]:
        assert key_padding_mask is None
        assert not causal
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(query, key, value).transpose(1, 2), None


def rearrange(x: Tensor, pattern: str, **sizes: int) -> Tensor:
    """einops' function, for the two patterns of the attention."""
    if pattern == "b (three h d) s -> b s three h d":
        return x.unflatten(1, (sizes["three"], sizes["h"], -1)).permute(0, 4, 1, 2, 3)
    assert pattern == "b s h d -> b (h d) s"
    return x.permute(0, 2, 3, 1).flatten(1, 2)


@contextmanager
def imported() -> Iterator[SimpleNamespace]:
    """`unet` and `karras` of the checkout; sys.modules and sys.path are put back."""
    stubs = {
        "flash_attn": {},
        "flash_attn.flash_attention": {"FlashAttention": PlainFlashAttention},
        "einops": {"rearrange": rearrange},
        "piq": {"LPIPS": None},
        "torchvision": {},
        "torchvision.transforms": {"RandomCrop": None},
        "blobfile": {},
        "mpi4py": {"MPI": None},
    }
    before = dict(sys.modules)
    for name, values in stubs.items():
        module = ModuleType(name)
        vars(module).update(values)
        sys.modules[name] = module
    sys.path.insert(0, str(CHECKOUT))
    try:
        yield SimpleNamespace(
            unet=importlib.import_module("cm.unet"),
            karras=importlib.import_module("cm.karras_diffusion"),
        )
    finally:
        sys.path.remove(str(CHECKOUT))
        for name in set(sys.modules) - set(before):
            if name.split(".")[0] in ("cm", "flash_attn", "einops", "blobfile", "mpi4py"):
                del sys.modules[name]
        for name in stubs:
            if name in before:
                sys.modules[name] = before[name]
            else:
                sys.modules.pop(name, None)


def make_unet(upstream: SimpleNamespace, config: Config) -> nn.Module:
    """The U-Net with the arguments that OpenAI's scripts would give it."""
    return upstream.unet.UNetModel(
        image_size=config.size,
        in_channels=config.in_channels,
        model_channels=config.channels,
        out_channels=config.out_channels,
        num_res_blocks=config.num_res_blocks,
        attention_resolutions=config.attention,
        channel_mult=config.mult,
        num_classes=config.num_classes,
        num_heads=4,
        num_head_channels=config.num_head_channels,
        use_scale_shift_norm=config.scale_shift,
        resblock_updown=config.resblock_updown,
    ).eval()


@torch.no_grad()
def outputs(
    upstream: SimpleNamespace,
    config: Config,
    tensors: dict[str, Tensor],
    given: tuple[Tensor, Tensor, Tensor | None],
) -> dict[str, Tensor]:
    """What OpenAI's code computes: the network's output, and the denoiser's in both kinds."""
    unet = make_unet(upstream, config)
    unet.load_state_dict(tensors, strict=True)
    x, sigma, labels = given
    named = {} if labels is None else {"y": labels}
    found = {"network": unet(x, 250 * sigma.log(), **named)}
    for kind, distillation in (("consistency", True), ("edm", False)):
        denoiser = upstream.karras.KarrasDenoiser(distillation=distillation, loss_norm="l2")
        found[kind] = denoiser.denoise(unet, x, sigma, **named)[1]
    return found


@torch.no_grad()
def one_step_samples(
    upstream: SimpleNamespace,
    config: Config,
    tensors: dict[str, Tensor],
    z: Tensor,
    labels: Tensor | None,
) -> Tensor:
    """What OpenAI's sampling script makes of the latents z in one step."""
    unet = make_unet(upstream, config)
    unet.load_state_dict(tensors, strict=True)
    return upstream.karras.karras_sample(
        upstream.karras.KarrasDenoiser(distillation=True, loss_norm="l2"),
        unet,
        tuple(z.shape),
        steps=40,
        model_kwargs={} if labels is None else {"y": labels},
        device="cpu",
        sampler="onestep",
        generator=SimpleNamespace(randn=lambda *shape, device: z),
    )
