"""DMD2's backward simulation draws one step for a batch: a measure asks at each of them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from disback_plugin.adapters.dmd2.measure import sd_measure

STEPS = torch.tensor([999, 749, 499, 249])


class Simulating(nn.Module):
    """Draws and walks its list as `SDUniModel` does; a sample is the number of steps walked."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.guidance_model: Any = nn.Module()
        self.accelerator = SimpleNamespace(device=torch.device("cpu"))
        self.denoising_step_list: Any = STEPS
        self.seen: list[tuple[int, list[int]]] = []
        self.fails = fails
        self.guidance_model.args = SimpleNamespace(
            batch_size=3,
            backward_simulation=True,
            num_denoising_step=4,
            latent_resolution=2,
            latent_channel=1,
            sdxl=True,
            use_fp16=False,
        )
        self.guidance_model.scheduler = SimpleNamespace(add_noise=lambda x0, eps, times: x0)
        self.guidance_model.min_step, self.guidance_model.max_step = 20, 980
        self.guidance_model.num_train_timesteps = 1000

    def forward(self, noise: Tensor, text: Any, *more: Any, **options: Any) -> Any:
        if self.fails:
            raise RuntimeError("out of memory")
        num = len(noise)
        at_random = self.denoising_step_list.to(noise.device)[torch.randint(4, (num,))]
        drawn = torch.randint(4, (1,))
        walked = sum(1 for _ in self.denoising_step_list[:drawn])
        times = self.denoising_step_list[drawn] * torch.ones(num, dtype=torch.long)
        assert times.shape == at_random.shape
        self.seen.append((walked, times.tolist()))
        made = {"image": noise, "text_embedding": text, "unet_added_conditions": None}
        return None, {"guidance_data_dict": made}


def answer(noisy: Tensor, *conditions: Any, **more: Any) -> Any:
    return SimpleNamespace(sample=noisy)


def test_every_step_is_asked_for_as_many_samples_and_the_list_is_as_it_was() -> None:
    model = Simulating()
    measure: Any = sd_measure(model, [torch.zeros(1)] * 5)
    residuals, _ = measure(answer)
    assert len(residuals) == 16
    assert model.seen == [
        (step, [time] * num) for step, time in enumerate(STEPS.tolist()) for num in (3, 1)
    ]
    assert model.denoising_step_list is STEPS


def test_the_list_of_steps_is_as_it_was_after_an_error_too() -> None:
    model = Simulating(fails=True)
    measure: Any = sd_measure(model, [torch.zeros(1)])
    with pytest.raises(RuntimeError, match="out of memory"):
        measure(answer)
    assert model.denoising_step_list is STEPS
