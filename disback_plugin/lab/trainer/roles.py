"""What a run is set up with: accelerator, the roles at step 0, their draws, the arm's session."""

import copy
import os
from pathlib import Path

from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import ProjectConfiguration

from disback_plugin.config import Arm, DisBackConfig
from disback_plugin.diffusion import Denoiser, without_guidance
from disback_plugin.errors import ConfigError, count
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.noise import make_noise
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.trainer.batches import BatchSampler
from disback_plugin.lab.trainer.loop import Networks
from disback_plugin.lab.trainer.network import TrainedNetwork, save_memory, speed_up
from disback_plugin.lab.trainer.residuals import Residuals
from disback_plugin.lab.trainer.sharding import make_plugin, require_sharding, shard
from disback_plugin.lab.trainer.shared_roles import make_shared_networks
from disback_plugin.lab.trainer.trackers import TENSORBOARD, chosen_trackers
from disback_plugin.session import DisBack

_FSDP = "ACCELERATE_USE_FSDP"
_UNSUPPORTED = {_FSDP: "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def make_accelerator(config: ExperimentConfig) -> Accelerator:
    """One process, or as many as torchrun or `accelerate launch` started.

    Raises ConfigError for a device or precision that this machine, or this process (Accelerate
    keeps both for a process's lifetime), cannot have, for a batch that does not divide, and where
    it was started under FSDP or DeepSpeed.
    """
    _refuse_sharding(config)
    launched = os.environ.get(_FSDP)
    trackers = chosen_trackers(config.logging)
    # published networks may have weights that distillation does not use, EDM's for augmentation:
    # DDP would wait for their gradients; looking for them costs a walk over the graph a step
    unused = config.teacher.checkpoint is not None
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)] if unused else None
    try:
        accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=config.mixed_precision,
            log_with=trackers or None,
            project_config=ProjectConfiguration(logging_dir=TENSORBOARD),  # see start_trackers
            kwargs_handlers=handlers,
            fsdp_plugin=make_plugin() if config.sharding else None,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"device={config.device}, mixed_precision={config.mixed_precision}: {error}"
        ) from error
    if config.device == "cuda" and accelerator.device.type != "cuda":
        raise ConfigError("device=cuda, but torch sees no CUDA device; use device=auto or cpu")
    if config.sharding:
        _require_sharding(accelerator, launched)
    processes = count(accelerator.num_processes, "process", "processes")
    parts = accelerator.num_processes * config.distill.num_accumulation_steps
    for name in ("batch_size", "record_batch_size"):
        size = getattr(config.distill, name)
        if size is not None and size % parts:
            raise ConfigError(
                f"distill.{name}={size} does not divide into"
                f" {processes} x {config.distill.num_accumulation_steps} accumulation steps"
            )
    training = config.teacher.training
    if training is not None and training.batch_size % accelerator.num_processes:
        raise ConfigError(
            f"teacher.training.batch_size={training.batch_size} does not divide into {processes}"
        )
    return accelerator


def make_networks(
    config: ExperimentConfig,
    teacher: Denoiser,
    problem: Problem,
    seed: int,
    accelerator: Accelerator,
) -> Networks:
    """The roles at step 0: the fake score starts as the teacher, the student from `seed`.

    Guidance is the teacher's alone (Eq. 8 with nodes too): what is trained answers to the prompt.
    """
    if config.lora is not None:
        return make_shared_networks(config, teacher, seed, accelerator)
    distill = config.distill
    dropout = distill.dropout
    ema = distill.student_ema_decay if distill.student_ema_half_life is None else distill.ema_decay
    student = config.student.make(teacher, problem.data_shape, seed)
    fake_score = without_guidance(copy.deepcopy(teacher)).requires_grad_(True)
    for network in (teacher, fake_score, student):
        speed_up(network, config)
    if config.gradient_checkpointing:
        for network in (fake_score, student):
            save_memory(network)
    return Networks(
        teacher=shard(teacher, accelerator),
        fake_score=TrainedNetwork(
            "fake_score", fake_score, accelerator, distill.fake_optimizer_settings, None, dropout
        ),
        student=TrainedNetwork(
            "student", student, accelerator, distill.student_optimizer_settings, ema, dropout
        ),
    )


def attach(
    config: ExperimentConfig,
    arm: Arm,
    networks: Networks,
    path: Path | None,
    measure: Residuals | None = None,
) -> DisBack | None:
    """The session of an arm; none for `fixed`, the loop without the plugin."""
    if arm == "fixed":
        return None
    roles = {
        "teacher": networks.base or networks.teacher,
        "fake_score": networks.base or networks.fake_score.network,
        "student": networks.student.network,
    }
    settings = DisBackConfig(path=path, arm=arm, **dict(config.disback))
    return DisBack.attach(roles=roles, config=settings, measure=measure)


def make_sampler(
    config: ExperimentConfig, problem: Problem, seed: int, accelerator: Accelerator
) -> BatchSampler:
    """The draws of seed `seed` for this process."""
    return BatchSampler(
        noise=make_noise(seed, accelerator, config.draw_on_device),
        batch_size=config.distill.batch_size,
        latent_shape=config.student.latent_shape(problem.data_shape),
        data_shape=problem.data_shape,
        num_classes=problem.num_classes,
        device=accelerator.device,
        condition=problem.condition,
    )


def _require_sharding(accelerator: Accelerator, launched: str | None) -> None:
    """As `require_sharding`; where it is refused, what Accelerate wrote for the plugin goes.

    The next experiment of this process would be taken for one that was launched under FSDP.
    """
    try:
        require_sharding(accelerator)
    except ConfigError:
        os.environ.pop(_FSDP, None)
        if launched is not None:
            os.environ[_FSDP] = launched
        raise


def _refuse_sharding(config: ExperimentConfig) -> None:
    """What a launcher asks Accelerate for by these variables is the settings' to decide."""
    for variable, name in _UNSUPPORTED.items():
        if config.sharding and name == "FSDP":
            continue
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise ConfigError(
                f"{variable} is set, but by its settings this trainer keeps whole networks on "
                f"every process and does not run under {name}: start it with torchrun or "
                "`accelerate launch --multi_gpu`, with sharding=fsdp2 for networks that are too "
                "large. In a loop of your own, DisBack.attach takes networks under fully_shard"
            )
