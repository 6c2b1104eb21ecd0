"""A small LoRA host: one base, one trained adapter."""

import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn

from disback_plugin.real_score.lora import LoRAAdapter


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.second(torch.nn.functional.silu(self.first(x)))


def adapted(base=None, targets=("first", "second"), **settings):
    torch.manual_seed(0)
    base = Base() if base is None else base
    base.requires_grad_(False)
    config = LoraConfig(r=2, target_modules=list(targets), **settings)
    return inject_adapter_in_model(config, base, adapter_name="default")


def moved(model, size=0.1):
    """A trained adapter that changes the output."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.add_(size * torch.randn(value.shape, generator=generator).to(value.dtype))
    return model


def with_node(model):
    """DisBack attached, the trained adapter as it is now installed as node 1."""
    installation = LoRAAdapter(model, "nearest")
    installation.install(1, installation.read_fake_score())
    return installation


def injected():
    return adapted()


def peft_model():
    torch.manual_seed(0)
    return get_peft_model(Base(), LoraConfig(r=2, target_modules=["first", "second"]))


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def train(model, steps=3, lr=0.005):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().sum().backward()
        optimizer.step()
