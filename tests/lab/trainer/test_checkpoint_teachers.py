"""Every checkpoint format as teacher and as start of the student: the networks of step 0."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from disback_plugin.diffusion import TextCondition, VPDenoiser, without_guidance
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import parse_config
from disback_plugin.lab.problems import prompts
from disback_plugin.lab.problems.prompts import PromptEncoder, PromptsProblem
from disback_plugin.lab.trainer.roles import make_networks
from disback_plugin.lab.trainer.teacher_files import load_source
from disback_plugin.pretrained import describe, load_denoiser, load_text_encoder
from tests.lab.trainer.checkpoint_cases import CASES, PROMPTS, settings


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_the_initial_student_is_its_checkpoint_asked_once(name: str, files: Path) -> None:
    config = settings(name, files)
    student, teacher = config.student, config.teacher
    assert student.kind == "denoiser"
    assert teacher.checkpoint is not None
    own = student if student.checkpoint else teacher
    denoiser = without_guidance(load_denoiser(own.checkpoint, **own.options))
    sigma = student.sigma
    if student.timestep is not None:
        assert isinstance(denoiser, VPDenoiser)
        t = torch.tensor(student.timestep, dtype=torch.float64)
        sigma = min(float(denoiser.schedule.sigma_of_t(t)), denoiser.sigma_max)
        assert denoiser.timestep(torch.tensor([sigma])).item() == student.timestep
    shape = describe(denoiser).data_shape
    cond: Any = torch.arange(3)
    if config.problem.kind in ("prompts", "latents"):
        cond = load_text_encoder(teacher.checkpoint)(PROMPTS)
    elif not describe(denoiser).num_classes:
        cond = None
    z = torch.randn(3, *shape)
    made = student.make(load_denoiser(teacher.checkpoint, **teacher.options), shape, 0)
    assert torch.equal(made.eval()(z, cond), denoiser(sigma * z, torch.full((3,), sigma), cond))


def test_guidance_is_the_teachers_alone(files: Path, accelerator: Accelerator) -> None:
    config = settings("sd", files)
    assert config.teacher.checkpoint is not None
    teacher = load_denoiser(config.teacher.checkpoint, **config.teacher.options)
    problem = PromptsProblem(data_shape=(4, 8, 8), num_classes=3)
    networks = make_networks(config, teacher.requires_grad_(False), problem, 0, accelerator)
    cond = load_text_encoder(config.teacher.checkpoint)(PROMPTS)
    x, sigma = torch.randn(3, 4, 8, 8), torch.full((3,), 2.0)
    plain = load_denoiser(config.teacher.checkpoint)(x, sigma, cond)
    assert torch.equal(networks.fake_score.raw.eval()(x, sigma, cond), plain)
    assert not torch.equal(networks.teacher(x, sigma, cond), plain)


@pytest.mark.parametrize("limit", ["prompts", "bytes"])
def test_a_prompt_is_encoded_once_and_the_same_whatever_the_cache_held(
    limit: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 77 * 16 * 4  # bytes of a prompt
    monkeypatch.setattr(prompts, "CACHE_BYTES", 2 * one + (one - 1 if limit == "bytes" else one))
    size = 2 if limit == "prompts" else 9
    encoder = PromptEncoder(PROMPTS, f"diffusers:{files}/sd", {}, cache_size=size)
    asked: list[str] = []
    cpu = torch.device("cpu")
    first = encoder(torch.tensor([0, 1, 0]), cpu)
    assert encoder._encoder is not None
    inner = encoder._encoder

    def counted(texts: Sequence[str]) -> TextCondition:
        asked.extend(texts)
        return inner(texts)

    encoder._encoder = counted  # type: ignore[assignment]
    assert torch.equal(encoder(torch.tensor([1, 0, 0]), cpu).hidden[0], first.hidden[1])
    assert asked == []
    encoder(torch.tensor([2]), cpu)  # 1 is the oldest now and goes
    again = encoder(torch.tensor([0, 1]), cpu)
    assert asked == [PROMPTS[2], PROMPTS[1]]
    assert torch.equal(again.hidden, first.hidden[:2])
    assert encoder._held == 2 * one


def test_a_spec_alone_is_short_for_a_checkpoint(files: Path) -> None:
    long = settings("edm", files)
    spec = f"edm-pkl:{files}/edm.pkl"
    short = settings("edm", files, f"teacher={spec}")
    assert short.teacher.checkpoint == long.teacher.checkpoint == spec
    assert parse_config(short.model_dump(mode="json"), "again") == short


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.file=x", "exactly one of 'training' and 'file', or a 'checkpoint'"),
        ("teacher.network={kind: small-unet}", "a 'checkpoint' brings its own"),
        ("teacher.checkpoint=null", "exactly one of"),
        ("student={kind: denoiser, sigma: 1, options: {a: 1}}", "they need 'checkpoint'"),
    ],
)
def test_settings_that_contradict_are_refused(override: str, message: str, files: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        settings("edm", files, override)


def test_a_labelled_teacher_is_told_labels_unless_that_is_switched_off(files: Path) -> None:
    config = settings("edm", files)
    _, source = load_source(config.teacher)
    assert config.problem.load(source).num_classes == 5
    without = settings("edm", files, "problem.conditional=false")
    assert without.problem.load(source).num_classes == 0
    assert config.problem.load().num_classes == 0
