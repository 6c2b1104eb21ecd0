import pytest
import torch

from disback_plugin.diffusion import EpsDenoiser, OneStepStudent
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.networks import (
    ResidualMLPConfig,
    ScaledDenoiserConfig,
    VPDenoiserConfig,
    make_teacher,
)
from disback_plugin.lab.config.students import (
    DenoiserStudentConfig,
    GeneratorStudentConfig,
    StudentConfig,
)

EDM = ScaledDenoiserConfig(kind="edm")
MLP = ResidualMLPConfig(hidden=8, num_blocks=1)


def test_an_offset_moves_the_students_start_by_exactly_that() -> None:
    teacher = make_teacher(EDM, MLP, (2,), 0, seed=0)
    config = GeneratorStudentConfig(hidden=8)
    moved = config.model_copy(update={"offset": (2.0, -1.0)})
    z = torch.randn(5, 2)
    plain, far = (c.make(teacher, (2,), seed=3)(z) for c in (config, moved))
    torch.testing.assert_close(far - plain, torch.tensor([2.0, -1.0]).expand(5, 2))
    with pytest.raises(ConfigError, match=r"student.offset has 2 numbers, the data 3"):
        moved.make(teacher, (3,), seed=3)


def test_a_student_at_the_last_timestep_starts_as_its_teacher_there() -> None:
    teacher = make_teacher(VPDenoiserConfig(kind="eps"), MLP, (2,), 0, seed=0)
    assert isinstance(teacher, EpsDenoiser)
    teacher.requires_grad_(False)
    student = DenoiserStudentConfig(timestep=999).make(teacher, (2,), seed=0)
    assert isinstance(student, OneStepStudent)
    assert student.sigma == pytest.approx(teacher.sigma_max, rel=1e-12)
    z = torch.randn(4, 2)
    sigma = torch.full((4,), student.sigma)
    assert torch.equal(student(z), teacher(student.sigma * z, sigma))
    assert all(parameter.requires_grad for parameter in student.parameters())
    own = {id(parameter) for parameter in teacher.parameters()}
    assert own.isdisjoint(id(parameter) for parameter in student.parameters())


def test_unit_noise_is_what_the_network_itself_is_given() -> None:
    """As DMD2 asks: the U-Net sees standard normal noise whatever the timestep."""
    teacher = make_teacher(VPDenoiserConfig(kind="eps"), MLP, (2,), 0, seed=0)
    seen: list[torch.Tensor] = []
    student = DenoiserStudentConfig(timestep=399, noise="unit").make(teacher, (2,), seed=0)
    student.denoiser.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    z = torch.randn(4, 2)
    student(z)
    torch.testing.assert_close(seen[0], z)
    assert student.scale == pytest.approx((1 + student.sigma**2) ** 0.5)
    edm = make_teacher(EDM, MLP, (2,), 0, seed=0)
    with pytest.raises(ConfigError, match="noise=unit is for models with timesteps"):
        DenoiserStudentConfig(sigma=1.0, noise="unit").make(edm, (2,), seed=0)


def test_a_timestep_needs_a_teacher_with_timesteps() -> None:
    teacher = make_teacher(EDM, MLP, (2,), 0, seed=0)
    with pytest.raises(ConfigError, match=r"give student\.sigma instead"):
        DenoiserStudentConfig(timestep=999).make(teacher, (2,), seed=0)


@pytest.mark.parametrize(
    ("config", "shape"),
    [(GeneratorStudentConfig(latent_dim=5), (5,)), (DenoiserStudentConfig(sigma=80), (1, 8, 8))],
)
def test_a_latent_is_what_the_student_takes(config: StudentConfig, shape: tuple[int, ...]) -> None:
    assert config.latent_shape((1, 8, 8)) == shape
