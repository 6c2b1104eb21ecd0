"""Small networks of every kind, and the recipe that gives them weights and inputs by seed."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.pretrained.edm import Precond, build_edm

SONG = {"model_type": "SongUNet", "model_channels": 8, "num_blocks": 1, "channel_mult": [1, 2]}
DDPMPP = {**SONG, "attn_resolutions": [4], "embedding_type": "positional"}
NCSNPP = {
    **SONG,
    "attn_resolutions": [4],
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "resample_filter": [1, 3, 3, 1],
}
# 64 channels make one of ADM's heads: here are two
ADM = {
    "model_type": "DhariwalUNet",
    "model_channels": 32,
    "num_blocks": 1,
    "channel_mult": [1, 4],
    "channel_mult_emb": 1,
    "attn_resolutions": [4],
}
SIZE, CHANNELS, BATCH, CLASSES, AUGMENT = 8, 3, 3, 5, 9


@dataclass(frozen=True)
class Case:
    """A denoiser's class and arguments, and which labels it is asked with."""

    name: str
    class_name: str
    network: dict[str, Any]
    labelled: bool = False
    augmented: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """As a checkpoint holds them: one mapping for the preconditioning and its network."""
        return {
            "img_resolution": SIZE,
            "img_channels": CHANNELS,
            "label_dim": CLASSES if self.labelled else 0,
            **({"augment_dim": AUGMENT} if self.augmented else {}),
            **self.network,
            **self.options,
        }


def _cases() -> list[Case]:
    kinds = {"ddpmpp": DDPMPP, "ncsnpp": NCSNPP, "adm": ADM}
    preconds = {"vp": "VPPrecond", "ve": "VEPrecond", "iddpm": "iDDPMPrecond", "edm": "EDMPrecond"}
    cases = [
        Case(f"{kind}-{short}", precond, network, labelled=index % 2 == 0, augmented=index == 3)
        for kind, network in kinds.items()
        for index, (short, precond) in enumerate(preconds.items())
    ]
    cases += [
        Case(f"{kind}-both-labels", "EDMPrecond", network, True, True)
        for kind, network in kinds.items()
    ]
    cases += [
        Case(f"song-{encoder}-{decoder}", "EDMPrecond", NCSNPP, options=options)
        for encoder in ("standard", "skip", "residual")
        for decoder in ("standard", "skip")
        for options in [{"encoder_type": encoder, "decoder_type": decoder}]
    ]
    variants: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "sigma-data": ("EDMPrecond", DDPMPP, {"sigma_data": 1.5}),
        "vp-schedule": ("VPPrecond", DDPMPP, {"beta_d": 12.0, "beta_min": 0.3, "M": 500}),
        "iddpm-schedule": ("iDDPMPrecond", DDPMPP, {"C_1": 0.01, "C_2": 0.02, "M": 200}),
        "adm-no-head": ("EDMPrecond", {**ADM, "model_channels": 8, "channel_mult": [1, 2]}, {}),
        "adm-attention": ("EDMPrecond", {**ADM, "model_channels": 64, "channel_mult": [1]}, {}),
        "three-levels": ("EDMPrecond", {**DDPMPP, "channel_mult": [2, 1, 2]}, {"num_blocks": 2}),
        "song-attention": ("EDMPrecond", {**DDPMPP, "attn_resolutions": [8, 4]}, {}),
        "long-filter": ("EDMPrecond", {**DDPMPP, "resample_filter": [1, 3, 3, 1]}, {}),
    }
    cases += [Case(name, *parts[:2], options=parts[2]) for name, parts in variants.items()]
    return cases


CASES = {case.name: case for case in _cases()}


def fill(module: nn.Module) -> None:
    """Give every parameter and every random buffer values by seed, in the order of their names.

    Normal with std 1/sqrt(fan-in) (matrices), around 1 (gains, so that nothing vanishes) or around
    0 (biases); layers that training starts at zero count too. Tables and filters stay.
    """
    generator = torch.Generator().manual_seed(2024)
    for name, tensor in sorted(module.state_dict().items()):
        if name.rpartition(".")[2] in ("resample_filter", "u"):
            continue
        draw = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            draw /= tensor[0].numel() ** 0.5
        elif name.endswith("freqs"):
            draw *= 2
        else:
            draw = 0.2 * draw + (1 if "norm" in name and name.endswith("weight") else 0)
        tensor.copy_(draw)


def built(case: Case) -> Precond:
    """Our denoiser, with those values."""
    denoiser = build_edm(case.class_name, case.init_kwargs).eval()
    fill(denoiser)
    return denoiser


@dataclass(frozen=True)
class Inputs:
    """x (B, C, H, W), sigma (B,), labels (B,) int64 or None, augment_labels (B, 9) or None."""

    x: Tensor
    sigma: Tensor
    labels: Tensor | None
    augment_labels: Tensor | None

    @property
    def rows(self) -> Tensor | None:
        """The labels as NVlabs/edm takes them."""
        return None if self.labels is None else torch.eye(CLASSES)[self.labels]


def inputs(case: Case) -> Inputs:
    """The same for every case: noise levels over the whole range, one of each label."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(BATCH, CHANNELS, SIZE, SIZE, generator=generator)
    augment = torch.randn(BATCH, AUGMENT, generator=generator)
    sigma = torch.tensor([0.05, 1.3, 40.0])
    return Inputs(
        x * (1 + sigma[:, None, None, None]),
        sigma,
        torch.tensor([4, 0, 2]) if case.labelled else None,
        augment if case.augmented else None,
    )


def one_step_sigma(sigma_max: float) -> float:
    """The noise level of one-step samples: 80, where the model knows it."""
    return min(80.0, sigma_max)


def latent() -> Tensor:
    """Standard normal noise for one-step samples."""
    generator = torch.Generator().manual_seed(11)
    return torch.randn(BATCH, CHANNELS, SIZE, SIZE, generator=generator)


def kept(output: Tensor, every: int = 2) -> Tensor:
    """What is recorded of an output: every second (or so) pixel each way."""
    return output[:, :, ::every, ::every].flatten(1)


def names_digest(module: nn.Module) -> str:
    """sha256 of all tensor names and shapes, sorted."""
    lines = [f"{name} {tuple(tensor.shape)}" for name, tensor in module.state_dict().items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference within one sample, relative to its largest value; worst sample."""
    assert ours.shape == theirs.shape
    apart = (ours.double() - theirs.double()).abs().flatten(1).amax(1)
    return float((apart / theirs.double().abs().flatten(1).amax(1)).max())
