"""The example's data, teacher and measure: scikit-learn's digits, a small SD3 transformer."""

from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel
from sklearn.datasets import load_digits
from torch import Tensor, nn

from disback_plugin.lab.metrics.distances import frechet_distance

BATCH, NUM_CLASSES, SIDE = 64, 10, 8


def read_digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, SIDE, SIDE)
    return images / 8 - 1, torch.tensor(labels)


def conditions(labels: Tensor) -> dict[str, Tensor]:  # in the place of encoded prompts
    rows = nn.functional.one_hot(labels, NUM_CLASSES).float()
    return {"encoder_hidden_states": rows[:, None], "pooled_projections": rows}


def draw(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    rows = torch.randint(len(images), (BATCH,))
    noise = torch.randn(BATCH, 1, SIDE, SIDE)
    return {"latents": images[rows], "noise": noise, **conditions(labels[rows])}


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def make_teacher(folder: Path, num_steps: int, data: tuple[Tensor, Tensor]) -> None:
    """Flow matching: v = eps - x0 at x_t = (1 - t) x0 + t eps."""
    heads = {"num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 4}
    text = {"joint_attention_dim": NUM_CLASSES, "pooled_projection_dim": NUM_CLASSES}
    size = {"sample_size": SIDE, "pos_embed_max_size": SIDE, "caption_projection_dim": 64}
    torch.manual_seed(0)
    teacher = SD3Transformer2DModel(in_channels=1, out_channels=1, **heads, **text, **size)
    optimizer = torch.optim.Adam(teacher.parameters())
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / num_steps)
        batch = draw(*data)
        x0, eps, t = batch.pop("latents"), batch.pop("noise"), torch.randn(BATCH).sigmoid()
        x_t = torch.lerp(x0, eps, t[:, None, None, None])
        v = teacher(hidden_states=x_t, timestep=1000 * t, **batch).sample
        descend((v - (eps - x0)).square().mean(), optimizer)
    teacher.save_pretrained(folder.with_suffix(".part"))
    folder.with_suffix(".part").rename(folder)


@torch.no_grad()
def distance_to_data(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Frechet distance, in pixels, of one-step samples."""
    noise, t = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)), 0.999
    asked = {"hidden_states": t * noise, "timestep": torch.full((len(noise),), 1000 * t)}
    return frechet_distance(t * (noise - student(**asked, **conditions(labels)).sample), images)
