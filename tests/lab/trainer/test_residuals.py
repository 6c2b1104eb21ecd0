"""What recording and walking are decided from: the same draws for every network, and their cost."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from disback_plugin.diffusion import EDMDenoiser
from disback_plugin.lab.networks import ResidualMLP
from disback_plugin.lab.trainer.network import TrainedNetwork
from disback_plugin.lab.trainer.residuals import Residuals
from disback_plugin.lab.trainer.roles import make_accelerator, make_sampler
from tests.lab.trainer.conftest import tiny_config


class Dropping(nn.Module):
    """As a student and as a denoiser: its first input, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x, *others):
        return self.dropout(x) + self.shift


def make_measure(student: nn.Module, accelerator: Accelerator, batch_size: int = 8) -> Residuals:
    config = tiny_config(f"distill.batch_size={batch_size}")
    sampler = make_sampler(config, config.problem.load(), 0, accelerator)
    trained = TrainedNetwork(
        "student", student, accelerator, config.distill.student_optimizer_settings
    )
    return Residuals(trained, sampler, config.distill, accelerator)


@pytest.mark.parametrize(
    ("batch_size", "rows"), [(1, 1), (3, 3), (4, 1), (5, 2), (6, 2), (8, 2), (9, 3), (128, 32)]
)
def test_a_quarter_of_any_batch_is_measured_and_counted_as_such(
    accelerator: Accelerator, batch_size: int, rows: int
) -> None:
    student = Dropping()
    measure = make_measure(student, accelerator, batch_size)
    residual, samples = measure(student)
    assert residual.shape == samples.shape == (rows, 2)
    assert measure.passes == pytest.approx(2 * rows / batch_size)


def test_samples_are_drawn_again_when_the_student_was_updated(accelerator: Accelerator) -> None:
    student = Dropping()
    measure = make_measure(student, accelerator)
    assert not measure.has_samples
    _, first = measure(Dropping())
    _, again = measure(Dropping())
    assert again is first
    assert measure.passes == pytest.approx((1 + 2) * 2 / 8)
    measure.student.network(measure.batch.z).sum().backward()
    measure.student.update(0.1, None)
    assert not measure.has_samples
    _, moved = measure(Dropping())
    torch.testing.assert_close(moved, first + student.shift)
    assert not torch.equal(moved, first)
    assert measure.passes == pytest.approx((2 + 3) * 2 / 8)


def test_dropout_makes_no_difference_and_stays_on_in_training(accelerator: Accelerator) -> None:
    student, network = Dropping().train(), Dropping().train()
    measure = make_measure(student, accelerator)
    before = torch.get_rng_state()
    residual, samples = measure(network)
    assert torch.equal(residual, measure(Dropping().eval())[0])
    assert torch.equal(samples, measure.batch.z)
    torch.testing.assert_close(residual, measure.batch.eps)  # (x_t - x0) / sigma
    assert torch.equal(torch.get_rng_state(), before)
    assert student.dropout.training
    assert network.dropout.training


@pytest.mark.usefixtures("fresh_accelerate")
def test_teacher_and_fake_score_are_asked_in_the_same_precision() -> None:
    """Else the rounding of the fake score alone would pull as a common part of every pull."""
    accelerator = make_accelerator(tiny_config("mixed_precision=bf16"))
    torch.manual_seed(0)
    teacher = EDMDenoiser(ResidualMLP((2,), 8, 1, zero_output=False))
    fake_score = EDMDenoiser(ResidualMLP((2,), 8, 1, zero_output=False))
    fake_score.load_state_dict(teacher.state_dict())
    measure = make_measure(Dropping(), accelerator)
    asked, _ = measure(accelerator.prepare(fake_score))
    assert torch.equal(asked, measure(teacher)[0])
    with torch.no_grad():
        x0, draw = measure.student.raw.eval()(measure.batch.z), measure.batch
        exact = (teacher(x0 + draw.sigma[:, None] * draw.eps, draw.sigma) - x0) / draw.sigma[
            :, None
        ]
    assert not torch.equal(asked, exact)
