"""What DMD2's generator makes, and how far a score network is off on it.

Samples are those of DMD2's own forward pass, noised as for its distribution-matching loss. Score
networks are asked without guidance, as the fake score is trained: all losses are of one kind.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from disback_plugin.adapters.overlay.measuring import Ask, HostMeasure, drawn
from disback_plugin.measure import Measure
from disback_plugin.real_score.installation import is_sharded, unwrap


def edm_measure(model: nn.Module) -> Measure | None:
    """Of `main/edm/train_edm.py`; None where the model does not hold DMD2's arguments."""
    args = _arguments(model)
    return args and HostMeasure([partial(_edm, model)], model, args.batch_size)


def sd_measure(model: nn.Module, prompts: Any) -> Measure | None:
    """Of `main/train_sd.py`; None also where its script gave no prompts."""
    args = _arguments(model)
    if args is None or prompts is None:
        return None
    ask = partial(_stable_diffusion, model, prompts)
    asks: list[Ask] = [ask]
    if getattr(args, "backward_simulation", False):  # of several steps
        asks = [partial(_at_step, ask, model, step) for step in range(args.num_denoising_step)]
    return HostMeasure(asks, model, args.batch_size)


def _arguments(model: nn.Module) -> Any:
    return getattr(unwrap(model.get_submodule("guidance_model")), "args", None)


def _at_step(
    ask: Ask, model: Any, step: int, network: nn.Module, num: int
) -> tuple[Tensor, Tensor]:
    """Backward simulation draws one step of all for a batch, shared by the ranks: here it is known.

    What the generator makes at its first step and at its last is not alike.
    """
    steps = model.denoising_step_list
    try:
        model.denoising_step_list = OneStep(steps, step)
        return ask(network, num)
    finally:
        model.denoising_step_list = steps


class OneStep:
    """DMD2's denoising steps, of which whatever is drawn is this one; a slice ends before it."""

    def __init__(self, steps: Tensor, chosen: int) -> None:
        self._steps, self._chosen = steps, chosen

    def to(self, *place: Any) -> "OneStep":
        return OneStep(self._steps.to(*place), self._chosen)

    def __getitem__(self, drawn: slice | Tensor) -> Tensor:
        if isinstance(drawn, slice):
            return self._steps[: self._chosen]
        return self._steps[self._chosen].expand(drawn.shape)


def _edm(model: Any, network: nn.Module, num: int) -> tuple[Tensor, Tensor]:
    guidance: Any = unwrap(model.guidance_model)
    args, device = guidance.args, model.accelerator.device
    noise = torch.randn(num, 3, args.resolution, args.resolution, device=device)
    start = torch.full((num,), args.conditioning_sigma, device=device)
    labels = torch.randint(args.label_dim, (num,), device=device)
    one_hot = torch.eye(args.label_dim, device=device)[labels]
    made = _made(model, noise * args.conditioning_sigma, start, one_hot)
    x0, label = made["image"], made["label"]
    sigma = guidance.karras_sigmas[_timesteps(guidance, x0)].reshape(-1, 1, 1, 1)
    noisy = x0 + sigma * torch.randn_like(x0)
    with _forward_of(model.guidance_model) as ask:
        return (ask(lambda: network(noisy, sigma, label)) - x0) / sigma, x0


def _stable_diffusion(
    model: Any, prompts: Any, network: nn.Module, num: int
) -> tuple[Tensor, Tensor]:
    """An eps-prediction is off by eps - eps_hat = (D - x0) / sigma."""
    guidance: Any = unwrap(model.guidance_model)
    args, device = guidance.args, model.accelerator.device
    side = args.latent_resolution
    noise = torch.randn(num, args.latent_channel, side, side, device=device)
    chosen = torch.randint(len(prompts), (num,)).tolist()
    rows = drawn(lambda: default_collate([prompts[i] for i in chosen]))
    text = rows if args.sdxl else rows["text_input_ids_one"].squeeze(1).to(device)
    without_guidance = noise.new_empty(0)
    made = _made(model, noise, text, without_guidance, denoising_dict=rows)
    x0, text, added = made["image"], made["text_embedding"], made["unet_added_conditions"]
    times, eps = _timesteps(guidance, x0), torch.randn_like(x0)
    noisy = guidance.scheduler.add_noise(x0, eps, times)
    if args.use_fp16 and network is guidance.real_unet:
        noisy, text = noisy.bfloat16(), text.bfloat16()
        added = added and {name: value.bfloat16() for name, value in added.items()}
    with _forward_of(model.guidance_model) as ask:
        answer = ask(lambda: network(noisy, times, text, added_cond_kwargs=added).sample)
    return eps - answer.float(), x0


def _made(model: Any, *inputs: Any, **more: Any) -> dict[str, Any]:
    """What DMD2's generator makes of these, with its conditions: no gradient, no loss."""
    _, log = model(*inputs, **more, compute_generator_gradient=False, generator_turn=True)
    made: dict[str, Any] = log["guidance_data_dict"]
    return made


def _timesteps(guidance: Any, x0: Tensor) -> Tensor:
    """As its distribution-matching loss draws them."""
    above = min(guidance.max_step + 1, guidance.num_train_timesteps)
    return torch.randint(guidance.min_step, above, (len(x0),), device=x0.device)


@contextmanager
def _forward_of(root: nn.Module) -> Iterator[Callable[[Callable[[], Tensor]], Tensor]]:
    """Under FSDP a part answers only within its root's forward pass; else at once."""
    if not is_sharded(root):
        yield lambda call: call()
        return
    inner = root.get_submodule("_fsdp_wrapped_module")
    own = vars(inner).get("forward")
    vars(inner)["forward"] = lambda call: call()
    try:
        yield root
    finally:
        vars(inner).pop("forward")
        if own is not None:
            vars(inner)["forward"] = own
