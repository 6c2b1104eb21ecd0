"""The networks that are measured: U-Nets of 15 to 313 M, a block of SDXL's shapes, SDXL itself."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from disback_plugin.lab.networks import LabelledSongUNet

SDXL = {  # config.json of stabilityai/stable-diffusion-xl-base-1.0, its unet
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


class Block(nn.Module):
    """The weights of one of SDXL's 1280-wide transformer blocks, 34.7 M; 60 of its 70 are such."""

    def __init__(self, width: int = 1280, context: int = 2048) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own = nn.ModuleList(nn.Linear(width, width, bias=last) for last in (0, 0, 0, 1))
        self.text = nn.ModuleList(nn.Linear(context, width, bias=False) for _ in range(2))
        self.cross = nn.ModuleList(nn.Linear(width, width, bias=last) for last in (0, 1))
        self.wide, self.narrow = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, tokens, width); every weight takes part, attention itself has none."""
        for layer in self.own:
            x = x + layer(self.norms[0](x))
        text = sum(layer(x.repeat(1, 1, 2)[..., : layer.in_features]) for layer in self.text)
        for layer in self.cross:
            x = x + layer(self.norms[1](x + text))
        value, gate = self.wide(self.norms[2](x)).chunk(2, -1)
        return x + self.narrow(value * nn.functional.gelu(gate))


def _block(width: int = 1280, context: int = 2048) -> nn.Module:
    return Block(width, context)


def _unet(channels: int, num_blocks: int = 4) -> nn.Module:
    sizes = {"multipliers": (1, 2, 2, 2), "num_blocks": num_blocks, "attn_resolutions": (16,)}
    return LabelledSongUNet((3, 32, 32), num_classes=0, channels=channels, **sizes)


def _sdxl() -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**SDXL)


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "tiny": lambda: _block(32, 48),
    "block": _block,
    "unet-15m": lambda: _unet(64),
    "unet-62m": lambda: _unet(128),
    "unet-139m": lambda: _unet(192),
    "unet-313m": lambda: _unet(288),
    "sdxl": _sdxl,
}


def make(name: str, device: torch.device) -> nn.Module:
    """The network with random weights, float32, frozen."""
    torch.manual_seed(0)
    with device:
        return MAKERS[name]().requires_grad_(False).eval()


def answer(network: nn.Module, name: str, device: torch.device) -> Tensor:
    """What it answers to random inputs of its shapes, one sample."""
    if name in ("tiny", "block"):
        width = network.norms[0].normalized_shape[0]
        return network(torch.randn(1, 77, width, device=device))
    if name == "sdxl":
        added = {
            "text_embeds": torch.randn(1, 1280, device=device),
            "time_ids": torch.full((1, 6), 1024.0, device=device),
        }
        text = torch.randn(1, 77, 2048, device=device)
        x = torch.randn(1, 4, 128, 128, device=device)
        return network(x, torch.tensor(500, device=device), text, added_cond_kwargs=added).sample
    x = torch.randn(1, 3, 32, 32, device=device)
    return network(x, torch.ones(1, device=device), None)


def drift(network: nn.Module) -> None:
    """Move every weight a little, as a step of training does."""
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.rand_like(value).sub_(0.5), alpha=2e-5)


def train(network: nn.Module, name: str, num_steps: int, device: torch.device) -> None:
    """Adam steps towards random targets: changes of the shape that training makes."""
    network.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    for _ in range(num_steps):
        out = answer(network, name, device)
        (out - torch.randn_like(out)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    network.requires_grad_(False)
