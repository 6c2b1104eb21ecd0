"""From settings to objects: problem, teacher network, student. Weights come from a seed alone."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from disback_plugin.data import (
    DataSet,
    GaussianMixture,
    digits_dataset,
    mixture_dataset,
    random_mixture,
)
from disback_plugin.diffusion import (
    ConsistencyDenoiser,
    Denoiser,
    EDMDenoiser,
    EpsDenoiser,
    OneStepStudent,
    PreconditionedDenoiser,
    VDenoiser,
    alphas_cumprod,
)
from disback_plugin.diffusion.vp_denoisers import VPDenoiser
from disback_plugin.errors import ConfigError
from disback_plugin.metrics import (
    DigitsEvaluator,
    Evaluator,
    GaussiansEvaluator,
    digit_classifier,
)
from disback_plugin.networks import MLPGenerator, ResidualMLP, SmallUNet
from disback_plugin.trainer.model_config import (
    DenoiserConfig,
    GaussiansConfig,
    GeneratorStudentConfig,
    NetworkConfig,
    ProblemConfig,
    ResidualMLPConfig,
    StudentConfig,
    VPDenoiserConfig,
)
from disback_plugin.trainer.rng import seed_of

_VP: dict[str, type[VPDenoiser]] = {"eps": EpsDenoiser, "v": VDenoiser}
_SCALED: dict[str, type[EDMDenoiser | ConsistencyDenoiser]] = {
    "edm": EDMDenoiser,
    "consistency": ConsistencyDenoiser,
}


@dataclass(frozen=True)
class Problem:
    """The data; num_classes is 0 unless the networks are told the labels."""

    dataset: DataSet
    num_classes: int
    mixture: GaussianMixture | None = None

    @property
    def data_shape(self) -> tuple[int, ...]:
        return self.dataset.data_shape


def make_problem(config: ProblemConfig) -> Problem:
    """The data set that the settings name."""
    if isinstance(config, GaussiansConfig):
        mixture = _mixture(config)
        return Problem(mixture_dataset(mixture, seed=config.seed), 0, mixture)
    dataset = digits_dataset()
    return Problem(dataset, dataset.num_classes if config.conditional else 0)


def make_evaluator(problem: Problem, num_samples: int, cache_dir: Path) -> Evaluator:
    """The problem's metrics; `cache_dir` keeps the digits classifier for other processes."""
    mixture = problem.mixture
    if mixture is None:
        return DigitsEvaluator(problem.dataset.samples, digit_classifier(cache_dir))
    generator = torch.Generator().manual_seed(seed_of(0, 0, "evaluation/data"))
    data, _ = mixture.sample(num_samples, generator)
    return GaussiansEvaluator(data, mixture.means, mixture.std, mixture.weights)


def make_teacher(
    denoiser: DenoiserConfig, network: NetworkConfig, problem: Problem, seed: int
) -> Denoiser:
    """The denoiser with weights initialised from `seed`; the global generator is left alone."""
    noise_range = _denoiser_class(denoiser).noise_range
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, 0, "teacher/init"))
        inner = _network(network, problem, noise_range)
    return _wrap(denoiser, inner)


def make_student(
    config: StudentConfig, teacher: Denoiser, data_shape: Sequence[int], seed: int
) -> nn.Module:
    """G(z): a copy of the teacher asked at one noise level, or an MLP initialised from `seed`."""
    if isinstance(config, GeneratorStudentConfig):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, 0, "student/init"))
            generator = MLPGenerator(
                config.latent_dim, data_shape, config.hidden, config.num_layers
            )
        _shift(generator, config.offset)
        return generator
    sigma = config.sigma
    if config.timestep is not None:
        if not isinstance(teacher, VPDenoiser):
            raise ConfigError(
                "student.timestep needs a teacher with timesteps (denoiser kind eps or v); give"
                " student.sigma instead"
            )
        t = torch.tensor(config.timestep, dtype=torch.float64)
        sigma = min(float(teacher.schedule.sigma_of_t(t)), teacher.sigma_max)
    assert sigma is not None
    return OneStepStudent(copy.deepcopy(teacher).requires_grad_(True), sigma)


def latent_shape(config: StudentConfig, data_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one latent z of the student."""
    if isinstance(config, GeneratorStudentConfig):
        return (config.latent_dim,)
    return tuple(data_shape)


def _mixture(config: GaussiansConfig) -> GaussianMixture:
    if config.means is None:
        return random_mixture(config.num_components, config.std, config.extent, config.seed)
    means = torch.tensor(config.means)
    weights = torch.tensor(config.weights or [1.0] * len(means))
    return GaussianMixture(weights=weights / weights.sum(), means=means, std=config.std)


def _network(config: NetworkConfig, problem: Problem, noise_range: float) -> nn.Module:
    if isinstance(config, ResidualMLPConfig):
        return ResidualMLP(
            problem.data_shape,
            config.hidden,
            config.num_blocks,
            num_classes=problem.num_classes,
            noise_range=noise_range,
            zero_output=config.zero_output,
            input_skip=config.input_skip,
        )
    return SmallUNet(
        problem.data_shape,
        config.channels,
        config.multipliers,
        config.num_blocks,
        config.attention,
        num_classes=problem.num_classes,
        noise_range=noise_range,
        zero_output=config.zero_output,
    )


def _denoiser_class(config: DenoiserConfig) -> type[PreconditionedDenoiser]:
    return _VP[config.kind] if isinstance(config, VPDenoiserConfig) else _SCALED[config.kind]


def _wrap(config: DenoiserConfig, network: nn.Module) -> Denoiser:
    if isinstance(config, VPDenoiserConfig):
        return _VP[config.kind](network, alphas_cumprod(config.schedule), config.nearest_t)
    return _SCALED[config.kind](network, config.sigma_data, config.sigma_min, config.sigma_max)


def _shift(generator: MLPGenerator, offset: tuple[float, ...] | None) -> None:
    """Move the generator's start: the offset is added to its last bias."""
    if offset is None:
        return
    last = generator.layers[-1]
    assert isinstance(last, nn.Linear)
    shift: Tensor = torch.tensor(offset)
    if shift.shape != last.bias.shape:
        raise ConfigError(
            f"student.offset has {len(offset)} numbers, the data {last.bias.numel()} dimensions"
        )
    with torch.no_grad():
        last.bias.add_(shift)
