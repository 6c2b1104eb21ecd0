"""What is measured in SwiftBrush, against functions of the host and of diffusers."""

import runpy
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from disback_plugin.adapters.swiftbrush.measure import Draws, measure_of
from disback_plugin.measure import FEW
from tests.adapters.dmd2.inputs import LATENT, LATENT_CHANNELS, MAX_TOKENS, TEXT_DIM
from tests.adapters.swiftbrush.host import FILES, SwiftBrush
from tests.adapters.swiftbrush.lora_unet import make_unets, move


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["small", "real"])
def test_residuals_are_those_of_the_hosts_own_functions(inputs: Path, real: bool) -> None:
    script = SwiftBrush.tree(real) / FILES[0]
    predict = runpy.run_path(str(script))["predict_original"]
    unet, teacher_lora = make_unets(inputs)
    move(teacher_lora)
    unet.train(), teacher_lora.train()
    scheduler = DDPMScheduler.from_pretrained(inputs / "sd15", subfolder="scheduler")
    prompts = [{"prompt_embeds": torch.randn(MAX_TOKENS, TEXT_DIM)} for _ in range(5)]
    draws = Draws(predict, scheduler, prompts, torch.float32, 8 * LATENT, 40)
    measure = measure_of(unet, teacher_lora, draws)
    answers = []
    for disabled in (True, False):  # the teacher, the fake score
        teacher_lora.disable_adapters() if disabled else teacher_lora.enable_adapters()
        residual, samples = measure(teacher_lora)
        torch.manual_seed(0)
        chosen = torch.randint(5, (FEW,)).tolist()
        embeds = torch.stack([prompts[i]["prompt_embeds"] for i in chosen])
        with torch.no_grad():
            start = torch.randn(FEW, LATENT_CHANNELS, LATENT, LATENT)
            x0 = predict(unet, scheduler, start, embeds)
            times, noise = torch.randint(20, 981, (FEW,)), torch.randn_like(x0)
            noisy = scheduler.add_noise(x0, noise, times)
            answer = teacher_lora(noisy, times, embeds).sample
        assert torch.equal(samples, x0)
        for number, time in enumerate(times):  # x0 as diffusers' own scheduler predicts it
            row = slice(number, number + 1)
            step = scheduler.step(answer[row], int(time), noisy[row])
            alpha = scheduler.alphas_cumprod[time]
            expected = (step.pred_original_sample - x0[row]) / ((1 - alpha) / alpha).sqrt()
            torch.testing.assert_close(residual[row], expected, rtol=1e-3, atol=1e-4)
        answers.append(residual)
    assert not torch.equal(*answers)
    assert unet.training
    assert teacher_lora.training
