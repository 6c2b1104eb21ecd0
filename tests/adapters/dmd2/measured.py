"""What the plugin measures of DMD2's networks, and the same out of DMD2's own loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from disback_plugin.adapter import get_adapter
from disback_plugin.measure import FEW


def both_ways(trainer: Any) -> dict[str, list[list[float]]]:
    """Of real and fake score the residuals, `ours` and `theirs`, flat; in one process."""
    host, adapter = trainer.disback._attached_to
    measure = get_adapter(adapter)().measure(host)
    guidance = trainer.accelerator.unwrap_model(trainer.model.guidance_model)
    ours = [measure(network)[0] for network in (guidance.real_unet, guidance.fake_unet)]
    trainer.model.eval()
    torch.manual_seed(0)
    of_chunk = _edm if adapter == "dmd2-edm" else _stable_diffusion
    with torch.no_grad():
        chunks = []
        for step, num in _chunks(trainer.args):
            with _drawn_as(step):
                chunks.append(of_chunk(trainer, guidance, num))
    theirs = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return {"ours": [_flat(r) for r in ours], "theirs": [_flat(r) for r in theirs]}


def _chunks(args: Any) -> Iterator[tuple[int, int]]:
    """The step at which backward simulation ends, and how many samples: as many of each step."""
    simulated = getattr(args, "backward_simulation", False)
    num_steps = args.num_denoising_step if simulated else 1
    for step in range(num_steps):
        left = FEW // num_steps
        while left > 0:
            yield step, min(left, args.batch_size)
            left -= args.batch_size


@contextmanager
def _drawn_as(step: int) -> Iterator[None]:
    """Within, the one number that DMD2 draws for all ranks is this; all else is drawn as ever."""
    plain = torch.randint

    def randint(*args: Any, **options: Any) -> Tensor:
        drawn = plain(*args, **options)
        return torch.full_like(drawn, step) if options.get("size") == (1,) else drawn

    torch.randint = randint  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randint = plain


def _flat(residual: Tensor) -> list[float]:
    return residual.double().flatten().tolist()


def _edm(trainer: Any, guidance: Any, num: int) -> list[Tensor]:
    args = trainer.args
    noise = args.conditioning_sigma * torch.randn(num, 3, args.resolution, args.resolution)
    labels = torch.eye(args.label_dim)[torch.randint(args.label_dim, (num,))]
    x0 = trainer.model.feedforward_model(noise, torch.full((num,), 80.0), labels)
    if hasattr(guidance, "both"):  # the small host
        *both, sigma = guidance.both(x0, labels)
    else:
        _, log = guidance.compute_distribution_matching_loss(x0, labels)
        both = [log[f"dmtrain_pred_{kind}_image"] for kind in ("real", "fake")]
        sigma = guidance.karras_sigmas[log["dmtrain_timesteps"]]
    return [(x0_hat - x0) / sigma for x0_hat in both]


def _stable_diffusion(trainer: Any, guidance: Any, num: int) -> list[Tensor]:
    args, (host, _) = trainer.args, trainer.disback._attached_to
    noise = torch.randn(num, args.latent_channel, args.latent_resolution, args.latent_resolution)
    rows = default_collate([host.prompts[i] for i in torch.randint(len(host.prompts), (num,))])
    text = rows if args.sdxl else rows["text_input_ids_one"].squeeze(1)
    _, log = trainer.model(
        noise,
        text,
        torch.zeros(1),
        denoising_dict=rows,
        compute_generator_gradient=False,
        generator_turn=True,
    )
    made = log["guidance_data_dict"]
    x0, embeds, added = made["image"], made["text_embedding"], made["unet_added_conditions"]
    if hasattr(guidance, "both"):
        *both, eps = guidance.both(x0, embeds)
        return [eps - answer for answer in both]
    guidance.real_guidance_scale = 1  # the one thing that the measure leaves out
    seen = _noting(guidance.scheduler)
    _, log = guidance.compute_distribution_matching_loss(x0, embeds, embeds, added, added)
    alpha = guidance.alphas_cumprod[seen[0]].reshape(-1, 1, 1, 1)
    sigma = ((1 - alpha) / alpha).sqrt()
    both = [log[f"dmtrain_pred_{kind}_image"] for kind in ("real", "fake")]
    return [(x0_hat - x0) / sigma for x0_hat in both]


def _noting(scheduler: Any) -> list[Tensor]:
    """The time steps of what is noised from now on: DMD2's loss does not tell them."""
    plain: Callable[..., Tensor] = type(scheduler).add_noise
    seen: list[Tensor] = []

    def add_noise(sample: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        seen.append(times)
        return plain(scheduler, sample, noise, times)

    scheduler.add_noise = add_noise
    return seen
