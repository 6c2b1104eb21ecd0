"""The Accelerator of a run: device, precision, processes, tracker."""

from accelerate import Accelerator, DistributedDataParallelKwargs

from disback_plugin.errors import ConfigError, count
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer.log import check_wandb


def make_accelerator(config: ExperimentConfig) -> Accelerator:
    """One process, or as many as torchrun or `accelerate launch` started.

    Raises ConfigError for a device or precision that this machine, or this process (Accelerate
    keeps both for a process's lifetime), cannot have, and for a batch that does not divide.
    """
    wandb = config.logging.wandb
    if wandb is not None:
        check_wandb()
    # published networks may have weights that distillation does not use, EDM's for augmentation:
    # DDP would wait for their gradients; looking for them costs a walk over the graph a step
    unused = config.teacher.checkpoint is not None
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)] if unused else None
    try:
        accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=config.mixed_precision,
            log_with=None if wandb is None else "wandb",
            kwargs_handlers=handlers,
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"device={config.device}, mixed_precision={config.mixed_precision}: {error}"
        ) from error
    if config.device == "cuda" and accelerator.device.type != "cuda":
        raise ConfigError("device=cuda, but torch sees no CUDA device; use device=auto or cpu")
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
