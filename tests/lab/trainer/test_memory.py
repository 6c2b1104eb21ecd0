"""Gradient checkpointing, small batches of samples, the average by images: the paper's size."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from disback_plugin.diffusion import EDMDenoiser
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.training import DistillConfig, OptimizerSettings
from disback_plugin.lab.networks import ResidualMLP
from disback_plugin.lab.networks.unets import LabelledSongUNet
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.network import TrainedNetwork, save_memory
from tests.lab.trainer.checkpoint_cases import settings
from tests.lab.trainer.conftest import lines, same_bits, tensors, tiny_config, whole_and_resumed
from tests.tiers import sample_of


def kept_bytes(denoiser: EDMDenoiser) -> tuple[int, dict[str, torch.Tensor]]:
    """What autograd keeps of a forward pass, and the gradients that come of it."""
    sizes = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(3)  # dropout
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = denoiser(x, torch.ones(2))
    num = sum(sizes)  # what is kept while computing again does not count
    answer.square().sum().backward()
    return num, {name: value.grad for name, value in denoiser.named_parameters()}


def test_checkpointing_keeps_less_and_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    network = LabelledSongUNet((1, 8, 8), 16, (1, 2), 2, (8,), dropout=0.3)
    for value in network.parameters():  # the last convolutions start at nearly zero
        torch.nn.init.normal_(value, std=0.1)
    denoiser = EDMDenoiser(network).train()
    plain, gradients = kept_bytes(denoiser)
    denoiser.zero_grad()
    assert save_memory(denoiser) is denoiser
    less, again = kept_bytes(denoiser)
    assert less < plain / 2
    assert same_bits(gradients, again)
    assert any(bool(value.abs().max() > 0) for value in gradients.values())


def test_a_network_that_cannot_is_refused() -> None:
    with pytest.raises(ConfigError, match="set it to false"):
        save_memory(EDMDenoiser(ResidualMLP((2,), 8, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sample_of("edm", rest=["cm", "sdxl"]))
def test_every_published_network_trains_to_the_same_bits(
    name: str, files: Path, tmp_path: Path
) -> None:
    small = ("distill.num_steps=5", "evaluation.every=5", "checkpoint.every=5")
    few = (*small, "gradient_checkpointing=true", "evaluation.batch_size=3")
    run_experiment(settings(name, files, *small), tmp_path / "plain", ["disback"])
    run_experiment(settings(name, files, *few), tmp_path / "less", ["disback"])
    runs = [tmp_path / folder / "runs/disback-seed0" for folder in ("plain", "less")]
    assert same_bits(*map(tensors, runs))
    values = [lines(run / "metrics.jsonl", "eval")[-1]["metrics"] for run in runs]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_no_probe_where_none_is_asked_for(files: Path, tmp_path: Path) -> None:
    for num in (0, 8):
        small = (f"evaluation.num_probed={num}", "distill.num_steps=4", "evaluation.every=4")
        run_experiment(settings("edm", files, *small), tmp_path / str(num), ["fixed"])
    told = [lines(tmp_path / f"{num}/runs/fixed-seed0/metrics.jsonl") for num in (0, 8)]
    counted = [sum(line["kind"] == "mismatch" for line in each) for each in told]
    assert counted == [0, 2]
    with pytest.raises(ConfigError, match="an even number of at least 4, or 0"):
        settings("edm", files, "evaluation.num_probed=3")


def test_an_average_by_images_goes_on_where_it_stopped(tmp_path: Path) -> None:
    by_images = ("distill.student_ema_half_life=40", "distill.student_ema_rampup=0.5")
    config = tiny_config(*by_images, "checkpoint.keep=9")
    whole, run = whole_and_resumed(config, tmp_path)
    final = tensors(whole)
    assert same_bits(tensors(run), final)
    names = [name for name in final if name.startswith("raw.") and name.endswith("weight")]
    assert not any(torch.equal(final[name], final[f"ema.{name[4:]}"]) for name in names)


def test_the_average_follows_the_half_life(accelerator: Accelerator) -> None:
    config = DistillConfig(
        num_steps=9, batch_size=4, student_ema_half_life=8.0, student_ema_rampup=1.0
    )
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    settings = OptimizerSettings(betas=(0.0, 0.99), momentum=0.0)
    trained = TrainedNetwork("student", module, accelerator, settings, config.ema_decay)
    expected = 1.0
    for num, value in enumerate((3.0, -1.0, 4.0, 2.0)):
        trained.raw.weight.data.fill_(value)
        trained.raw.weight.grad = torch.zeros_like(trained.raw.weight)
        trained.update(0.1, None)
        decay = 0.5 ** (4 / min(8.0, 4 * num)) if num else 0.0
        expected = decay * expected + (1 - decay) * value
    assert trained.ema is not None
    assert trained.ema.module.weight.item() == pytest.approx(expected, rel=1e-6)
