import pytest
import torch

from disback_plugin.diffusion import EpsDenoiser, OneStepStudent
from disback_plugin.errors import ConfigError, DisBackError
from disback_plugin.lab.config.networks import (
    DenoiserStudentConfig,
    DigitsConfig,
    EDMDenoiserConfig,
    GaussiansConfig,
    GeneratorStudentConfig,
    ResidualMLPConfig,
    SmallUNetConfig,
    StudentConfig,
    VPDenoiserConfig,
)
from disback_plugin.lab.problems.problems import Problem, make_problem
from disback_plugin.lab.trainer.build import latent_shape, make_student, make_teacher
from tests.lab.trainer.conftest import same_bits

MLP = ResidualMLPConfig(hidden=8, num_blocks=1)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem(GaussiansConfig(means=((0.0, 0.0), (3.0, 1.0)), std=0.1, weights=(1, 3)))


def test_weights_depend_on_the_seed_and_leave_the_global_generator_alone(problem: Problem) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (make_teacher(EDMDenoiserConfig(), MLP, problem, s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(first.state_dict(), again.state_dict())
    assert not same_bits(first.state_dict(), other.state_dict())


def test_mixture_weights_are_normalised(problem: Problem) -> None:
    assert problem.mixture is not None
    assert problem.mixture.weights.tolist() == [0.25, 0.75]
    assert problem.num_classes == 0


def test_an_offset_moves_the_students_start_by_exactly_that(problem: Problem) -> None:
    teacher = make_teacher(EDMDenoiserConfig(), MLP, problem, 0)
    config = GeneratorStudentConfig(hidden=8)
    moved = config.model_copy(update={"offset": (2.0, -1.0)})
    z = torch.randn(5, 2)
    plain, far = (make_student(c, teacher, (2,), seed=3)(z) for c in (config, moved))
    torch.testing.assert_close(far - plain, torch.tensor([2.0, -1.0]).expand(5, 2))
    with pytest.raises(ConfigError, match=r"student.offset has 2 numbers, the data 3"):
        make_student(moved, teacher, (3,), seed=3)


def test_a_student_at_the_last_timestep_starts_as_its_teacher_there(problem: Problem) -> None:
    teacher = make_teacher(VPDenoiserConfig(kind="eps"), MLP, problem, 0)
    assert isinstance(teacher, EpsDenoiser)
    teacher.requires_grad_(False)
    student = make_student(DenoiserStudentConfig(timestep=999), teacher, (2,), seed=0)
    assert isinstance(student, OneStepStudent)
    assert student.sigma == pytest.approx(teacher.sigma_max, rel=1e-12)
    z = torch.randn(4, 2)
    sigma = torch.full((4,), student.sigma)
    assert torch.equal(student(z), teacher(student.sigma * z, sigma))
    assert all(parameter.requires_grad for parameter in student.parameters())
    own = {id(parameter) for parameter in teacher.parameters()}
    assert own.isdisjoint(id(parameter) for parameter in student.parameters())


def test_a_timestep_needs_a_teacher_with_timesteps(problem: Problem) -> None:
    teacher = make_teacher(EDMDenoiserConfig(), MLP, problem, 0)
    with pytest.raises(ConfigError, match=r"give student\.sigma instead"):
        make_student(DenoiserStudentConfig(timestep=999), teacher, (2,), seed=0)


@pytest.mark.parametrize("conditional", [False, True])
def test_digits_networks_know_labels_only_where_asked(conditional: bool) -> None:
    digits = make_problem(DigitsConfig(conditional=conditional))
    assert digits.num_classes == (10 if conditional else 0)
    network = SmallUNetConfig(channels=8, multipliers=(1,), attention=False)
    teacher = make_teacher(EDMDenoiserConfig(), network, digits, 0)
    x, sigma = torch.randn(2, 1, 8, 8), torch.ones(2)
    assert teacher(x, sigma).shape == x.shape
    if conditional:
        zeros, sevens = teacher(x, sigma, torch.tensor([0, 0])), torch.tensor([7, 7])
        assert not torch.equal(zeros, teacher(x, sigma, sevens))
    else:
        with pytest.raises(DisBackError, match="num_classes=0"):
            teacher(x, sigma, torch.tensor([0, 0]))


@pytest.mark.parametrize(
    ("config", "shape"),
    [(GeneratorStudentConfig(latent_dim=5), (5,)), (DenoiserStudentConfig(sigma=80), (1, 8, 8))],
)
def test_a_latent_is_what_the_student_takes(config: StudentConfig, shape: tuple[int, ...]) -> None:
    assert latent_shape(config, (1, 8, 8)) == shape
