"""Memory format, compilation and device draws: other kernels, the same training."""

import copy
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from disback_plugin.diffusion import EDMDenoiser, OneStepStudent
from disback_plugin.lab.networks import ResidualMLP
from disback_plugin.lab.networks.unets import LabelledSongUNet
from disback_plugin.lab.noise import Noise
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.network import speed_up
from disback_plugin.real_score.whole import InPlace
from tests.lab.trainer.conftest import lines, same_bits, tensors, tiny_config


def teacher() -> EDMDenoiser:
    torch.manual_seed(0)
    return EDMDenoiser(LabelledSongUNet((1, 8, 8), 8, (1, 2), 1, (), num_classes=3)).eval()


X = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
SIGMA, LABELS = torch.ones(2), torch.tensor([0, 2])


def test_channels_last_keeps_names_and_answers() -> None:
    plain, fast = teacher(), teacher()
    speed_up(fast, tiny_config("channels_last=true"))
    assert fast.network.unet.enc["8x8_block0"].conv0.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    assert same_bits(plain.state_dict(), fast.state_dict())
    torch.testing.assert_close(fast(X, SIGMA, LABELS), plain(X, SIGMA, LABELS))


def test_a_node_installed_in_a_compiled_teacher_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # all of torch.compile but the machine code, which takes minutes
    quick = partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(nn.Module, "compile", quick)
    torch.manual_seed(0)
    compiled = EDMDenoiser(ResidualMLP((2,), 8, 1)).requires_grad_(False).eval()
    fake_score, node = copy.deepcopy(compiled), copy.deepcopy(compiled)
    for value in node.parameters():
        value.mul_(1.5)
    speed_up(compiled, tiny_config("compile=true"))
    installation = InPlace(compiled, fake_score, "nearest")
    x, sigma = torch.randn(4, 2), torch.ones(4)
    before, frames = compiled(x, sigma), counters["frames"]["ok"]
    assert frames > 0
    torch.testing.assert_close(before, fake_score(x, sigma))
    installation.install(1, node.state_dict())
    after = compiled(x, sigma)
    torch.testing.assert_close(after, node(x, sigma))
    assert not torch.allclose(after, before, rtol=1e-3)
    installation.install(0, fake_score.state_dict())
    assert torch.equal(compiled(x, sigma), before)
    assert counters["frames"]["ok"] == frames  # nothing was compiled anew


def test_only_the_network_within_a_denoiser_is_compiled_and_no_copy_of_it() -> None:
    student = OneStepStudent(teacher(), sigma=80.0)
    speed_up(student, tiny_config("compile=true"))
    compiled = [name for name, part in student.named_modules() if part._compiled_call_impl]
    assert compiled == ["denoiser.network"]
    assert not any(part._compiled_call_impl for part in copy.deepcopy(student).modules())


def test_the_default_is_neither() -> None:
    module = teacher()
    speed_up(module, tiny_config())
    assert not any(part._compiled_call_impl for part in module.modules())
    weight = module.network.unet.enc["8x8_block0"].conv0.weight
    assert weight.is_contiguous()


def test_draws_on_the_device_are_the_devices_own() -> None:
    cpu = Noise(3).normal(7, "z", (4, 2))
    assert torch.equal(Noise(3, device=torch.device("cpu")).normal(7, "z", (4, 2)), cpu)
    with pytest.raises(RuntimeError, match="META device type"):  # it was really asked there
        Noise(3, device="meta").normal(7, "z", (4, 2))


def test_draws_on_a_cpu_change_nothing(finished: Path, tmp_path: Path) -> None:
    run_experiment(tiny_config("draw_on_device=true"), tmp_path / "out", ["disback"])
    run = "runs/disback-seed0"
    assert same_bits(tensors(tmp_path / "out" / run), tensors(finished / run))
    assert len(lines(tmp_path / "out" / run / "metrics.jsonl", "switch")) == 3
