"""The roles as LoRAs on one base, the teacher; and such a student as a network of its own."""

from collections.abc import Mapping

from accelerate import Accelerator
from torch import Tensor

from disback_plugin.diffusion import Denoiser, OneStepStudent, without_guidance
from disback_plugin.errors import RunError
from disback_plugin.foreign_weights import translated
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.lora import LoRASettings
from disback_plugin.lab.config.students import DenoiserStudentConfig
from disback_plugin.lab.trainer.loop import Networks
from disback_plugin.lab.trainer.network import TrainedNetwork, speed_up
from disback_plugin.lab.trainer.shared_base import SharedBase, SharedRole, adaptable
from disback_plugin.pretrained.weights.lora import TrainedLoRA, fuse


def make_shared_networks(
    config: ExperimentConfig, teacher: Denoiser, seed: int, accelerator: Accelerator
) -> Networks:
    """The roles at step 0: both LoRAs add nothing yet, so that student and fake score are the base.

    `teacher` becomes the base, on the accelerator's device.
    """
    assert config.lora is not None
    base, distill = SharedBase(teacher), config.distill
    factors = {name: base.add(name, config.lora, seed) for name in ("student", "fake_score")}
    speed_up(teacher, config).to(accelerator.device)
    if config.gradient_checkpointing:
        base.save_memory()
    student = SharedRole(base, "student", factors["student"], student_settings(config).ask(teacher))
    fake_score = SharedRole(base, "fake_score", factors["fake_score"], teacher)
    ema = distill.student_ema_decay if distill.student_ema_half_life is None else distill.ema_decay
    dropout = distill.dropout
    return Networks(
        teacher=SharedRole(base, None, {}, teacher),
        fake_score=TrainedNetwork(
            "fake_score", fake_score, accelerator, distill.fake_optimizer_settings, None, dropout
        ),
        student=TrainedNetwork(
            "student", student, accelerator, distill.student_optimizer_settings, ema, dropout
        ),
        base=teacher,
    )


def check_shared(config: ExperimentConfig, teacher: Denoiser) -> None:
    """Raise ConfigError where the teacher takes no LoRA, or is not asked where the student is."""
    adaptable(teacher)
    student_settings(config).ask(teacher)


def fused_student(
    config: ExperimentConfig, teacher: Denoiser, factors: Mapping[str, Tensor], source: str
) -> OneStepStudent:
    """The student that has these factors, added to the weights of `teacher`, all in float32.

    Raises CheckpointError where they do not fit, RunError for a teacher without such a network.
    """
    assert config.lora is not None
    denoiser = without_guidance(teacher).float()
    lora = trained_lora(config.lora, factors)
    with translated(f"the LoRA in {source} does not load"):
        fuse(adaptable(denoiser), lora, source)
    return student_settings(config).ask(denoiser.requires_grad_(True))


def trained_lora(settings: LoRASettings, factors: Mapping[str, Tensor]) -> TrainedLoRA:
    """The factors of a run's student, with their scale."""
    return TrainedLoRA(settings.rank, settings.alpha, dict(factors))


def student_settings(config: ExperimentConfig) -> DenoiserStudentConfig:
    """Those of a student that is asked as a denoiser: with `lora` there are no others."""
    if not isinstance(config.student, DenoiserStudentConfig):
        raise RunError(f"the student of {config.name} is no denoiser")
    return config.student
