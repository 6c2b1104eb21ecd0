"""From settings to networks: teacher and student. Weights come from a seed or a checkpoint."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from disback_plugin.diffusion import (
    ConsistencyDenoiser,
    Denoiser,
    EDMDenoiser,
    EpsDenoiser,
    OneStepStudent,
    PreconditionedDenoiser,
    VDenoiser,
    VPDenoiser,
    alphas_cumprod,
    without_guidance,
)
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.networks import (
    DenoiserConfig,
    DenoiserStudentConfig,
    GeneratorStudentConfig,
    NetworkConfig,
    ResidualMLPConfig,
    SongUNetConfig,
    StudentConfig,
    VPDenoiserConfig,
)
from disback_plugin.lab.networks import MLPGenerator, ResidualMLP, SmallUNet
from disback_plugin.lab.networks.song_unet import LabelledSongUNet
from disback_plugin.lab.noise import seed_of
from disback_plugin.lab.problems.problems import Problem
from disback_plugin.pretrained import describe, load_denoiser

_VP: dict[str, type[VPDenoiser]] = {"eps": EpsDenoiser, "v": VDenoiser}
_SCALED: dict[str, type[EDMDenoiser | ConsistencyDenoiser]] = {
    "edm": EDMDenoiser,
    "consistency": ConsistencyDenoiser,
}


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
    """G(z): a denoiser asked at one noise level, or an MLP initialised from `seed`.

    The denoiser is the student's own checkpoint where the settings name one, else a copy of the
    teacher, without guidance.
    """
    if isinstance(config, GeneratorStudentConfig):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, 0, "student/init"))
            generator = MLPGenerator(
                config.latent_dim, data_shape, config.hidden, config.num_layers
            )
        _move(generator, config.scale, config.offset)
        return generator
    denoiser = without_guidance(_student_denoiser(config, teacher, data_shape))
    sigma = config.sigma
    if config.timestep is not None:
        if not isinstance(denoiser, VPDenoiser):
            raise ConfigError(
                "student.timestep needs a teacher with timesteps (denoiser kind eps or v); give"
                " student.sigma instead"
            )
        t = torch.tensor(config.timestep, dtype=torch.float64)
        sigma = min(float(denoiser.schedule.sigma_of_t(t)), denoiser.sigma_max)
    assert sigma is not None
    return OneStepStudent(denoiser.requires_grad_(True), sigma)


def latent_shape(config: StudentConfig, data_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one latent z of the student."""
    if isinstance(config, GeneratorStudentConfig):
        return (config.latent_dim,)
    return tuple(data_shape)


def _student_denoiser(
    config: DenoiserStudentConfig, teacher: Denoiser, data_shape: Sequence[int]
) -> Denoiser:
    if config.checkpoint is None:
        return copy.deepcopy(teacher)
    denoiser = load_denoiser(config.checkpoint, **config.options)
    found, due = describe(denoiser), teacher.description
    if found.data_shape != tuple(data_shape):
        raise ConfigError(
            f"student.checkpoint {config.checkpoint} makes samples of shape {found.data_shape},"
            f" the teacher takes {tuple(data_shape)}"
        )
    if due is not None and found.condition != due.condition:
        raise ConfigError(
            f"student.checkpoint {config.checkpoint} is conditioned on {found.condition!r}, the"
            f" teacher on {due.condition!r}"
        )
    return denoiser


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
    if isinstance(config, SongUNetConfig):
        return LabelledSongUNet(
            problem.data_shape,
            config.channels,
            config.multipliers,
            config.num_blocks,
            config.attn_resolutions,
            config.dropout,
            problem.num_classes,
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


def _move(generator: MLPGenerator, scale: float, offset: tuple[float, ...] | None) -> None:
    """Move the generator's start: the last layer times `scale`, then `offset` to its bias."""
    last = generator.layers[-1]
    assert isinstance(last, nn.Linear)
    shift = torch.zeros_like(last.bias) if offset is None else torch.tensor(offset)
    if shift.shape != last.bias.shape:
        raise ConfigError(
            f"student.offset has {len(shift)} numbers, the data {last.bias.numel()} dimensions"
        )
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(shift)
