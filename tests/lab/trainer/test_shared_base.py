"""Teacher, fake score, student and nodes as LoRAs on one base: who answers, and what is trained."""

import copy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.diffusion import Denoiser, TextCondition, without_guidance
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.lora import LoRASettings
from disback_plugin.lab.trainer.loop import Distillation, Networks
from disback_plugin.lab.trainer.network import TrainedNetwork
from disback_plugin.lab.trainer.roles import attach, make_networks, make_sampler
from disback_plugin.lab.trainer.shared_base import SharedBase, SharedRole, adaptable
from disback_plugin.path import DegradationPath
from disback_plugin.pretrained import load_denoiser
from tests.lab.trainer.checkpoint_cases import settings
from tests.lab.trainer.conftest import same_bits

SETTINGS = LoRASettings(rank=2, alpha=1.0)
GUIDED = ("lora={rank: 2, alpha: 1.0}", "teacher.options={guidance_scale: 3.0}")


@pytest.fixture(scope="module")
def teacher(files: Path) -> Denoiser:
    return load_denoiser(f"diffusers:{files}/sdxl", guidance_scale=3.0)


@pytest.fixture
def asked() -> tuple[Tensor, Tensor, TextCondition]:
    """x_t, sigma and prompts of SDXL's form."""
    rows = torch.Generator().manual_seed(0)
    x, hidden, pooled = (
        torch.randn(size, generator=rows) for size in ((2, 4, 8, 8), (2, 77, 24), (2, 8))
    )
    return x, torch.tensor([1.0, 3.0]), TextCondition(hidden, pooled)


def shared(teacher: Denoiser, **dtypes: torch.dtype) -> tuple[SharedBase, SharedRole, SharedRole]:
    """A base with two roles whose factors were moved apart."""
    base = SharedBase(copy.deepcopy(teacher))
    roles = []
    for seed, name in enumerate(("student", "fake_score")):
        factors = base.add(name, SETTINGS, seed)
        roles.append(SharedRole(base, name, factors, base.denoiser))
        rows = torch.Generator().manual_seed(seed)
        for value in roles[-1].parameters():
            with torch.no_grad():
                value.add_(0.2 * torch.randn(value.shape, generator=rows))
    return base, *roles


def merged(teacher: Denoiser, factors: dict[str, Tensor]) -> Denoiser:
    """W + alpha / rank B A, by hand; `factors` named within the U-Net."""
    denoiser = copy.deepcopy(teacher)
    for name in {name.rpartition(".lora_")[0] for name in factors}:
        module = adaptable(denoiser).get_submodule(name)
        a, b = (factors[f"{name}.lora_{one}.weight"] for one in "AB")
        with torch.no_grad():
            product = (b.flatten(1) @ a.flatten(1)).reshape(module.weight.shape)
            module.weight.add_(SETTINGS.alpha / SETTINGS.rank * product)
    return denoiser


def test_each_role_answers_as_its_own_merged_weights_and_the_base_as_the_teacher(
    teacher, asked
) -> None:
    base, student, fake_score = shared(teacher)
    alone = SharedRole(base, None, {}, base.denoiser)
    with torch.no_grad():
        for role in (student, fake_score, student):
            expected = without_guidance(merged(teacher, role.state_dict()))(*asked)
            torch.testing.assert_close(role(*asked), expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(alone(*asked), teacher(*asked))  # guided, as it was
    assert not torch.equal(student(*asked), fake_score(*asked))
    assert not list(alone.parameters())


def test_a_role_has_its_adapters_weights_alone_in_float32(files: Path) -> None:
    half = load_denoiser(f"diffusers:{files}/sdxl", dtype="bf16")
    base, student, fake_score = shared(half)
    assert {value.dtype for value in adaptable(half).parameters()} == {torch.bfloat16}
    ours = {value.data_ptr(): value for value in student.parameters()}
    assert {value.dtype for value in ours.values()} == {torch.float32}
    assert all(value.requires_grad for value in [*ours.values(), *fake_score.parameters()])
    assert not ours.keys() & {value.data_ptr() for value in fake_score.parameters()}
    rest = [value for name, value in base.network.named_parameters() if "lora_" not in name]
    assert not any(value.requires_grad for value in rest)
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in student.state_dict())


def gradients(base: SharedBase, role: SharedRole, other: SharedRole, asked) -> dict[str, Tensor]:
    """Of a loss on a role's answer, while other roles were asked in between."""
    loss = role(*asked).square().mean()
    with torch.no_grad():
        other(*asked)
        SharedRole(base, None, {}, base.denoiser)(*asked)
    loss.backward()
    assert all(value.grad is None for value in other.parameters())
    found = {name: value.grad.clone() for name, value in role.named_parameters()}
    role.zero_grad()
    return found


def test_gradients_are_the_same_with_checkpointing_whoever_is_asked_in_between(
    teacher, asked
) -> None:
    base, student, fake_score = shared(teacher)
    pairs = [(student, fake_score), (fake_score, student)]
    plain = [gradients(base, role, other, asked) for role, other in pairs]
    assert all(any(bool(value.abs().max() > 0) for value in one.values()) for one in plain)
    base.save_memory()
    for (role, other), expected in zip(pairs, plain, strict=True):
        assert same_bits(gradients(base, role, other, asked), expected)


def test_an_average_is_a_copy_on_the_same_base(teacher, asked) -> None:
    base, student, _ = shared(teacher)
    with torch.no_grad():
        before = student(*asked)
        average = copy.deepcopy(student)
        for value in student.parameters():
            value.add_(0.1)
        after = student(*asked)
        assert torch.equal(average(*asked), before)
        assert torch.equal(student(*asked), after)
    assert not torch.equal(before, after)
    assert average.base is base


def test_what_takes_no_lora_is_refused(files: Path, teacher) -> None:
    with pytest.raises(ConfigError, match="text models of diffusers"):
        SharedBase(load_denoiser(f"diffusers:{files}/ddpm"))
    with pytest.raises(ConfigError, match=r"lora.targets does not fit the teacher: .*no_such"):
        SharedBase(copy.deepcopy(teacher)).add("student", LoRASettings(targets=("no_such",)), 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.checkpoint=diffusers:{}/sdxl", "take student.checkpoint"),
        ("student={kind: generator}", "another kind than 'denoiser'"),
        ("compile=true", "'compile' and 'sharding' do not go with 'lora'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(override, message, files) -> None:
    with pytest.raises(ConfigError, match=message):
        settings("sdxl", files, *GUIDED, override.replace("{}", str(files)))


# -- the loop -------------------------------------------------------------------------------------


def loop_of(
    config: ExperimentConfig, networks: Networks, accelerator: Accelerator, path: Path | None
) -> Distillation:
    sampler = make_sampler(config, loaded(config), 0, accelerator)
    session = attach(config, "fixed" if path is None else "disback", networks, path)
    return Distillation(networks, config, sampler, accelerator, session)


def loaded(config: ExperimentConfig):
    from disback_plugin.lab.trainer.experiment import Experiment

    return Experiment(config, Path("nowhere")).problem


def shared_networks(config: ExperimentConfig, accelerator: Accelerator) -> Networks:
    teacher = load_denoiser(config.teacher.checkpoint, **config.teacher.options)
    return make_networks(config, teacher, loaded(config), 0, accelerator)


def separate_networks(config: ExperimentConfig, accelerator: Accelerator) -> Networks:
    """Three networks, two of which have a LoRA of their own, as anybody would use peft."""

    def adapted(name: str) -> Denoiser:
        own = without_guidance(load_denoiser(config.teacher.checkpoint, **config.teacher.options))
        SharedBase(own).add(name, config.lora, 0)
        return own

    distill, student = config.distill, config.student.ask(adapted("student"))
    trained = {
        name: TrainedNetwork(name, module, accelerator, made, None, distill.dropout)
        for name, module, made in (
            ("student", student, distill.student_optimizer_settings),
            ("fake_score", adapted("fake_score"), distill.fake_optimizer_settings),
        )
    }
    teacher = load_denoiser(config.teacher.checkpoint, **config.teacher.options)
    return Networks(teacher=teacher.requires_grad_(False), **trained)


def factors_of(module: nn.Module) -> list[Tensor]:
    return [value.detach() for name, value in module.named_parameters() if value.requires_grad]


def test_without_disback_the_loop_is_that_of_separate_networks(
    files: Path, accelerator: Accelerator
) -> None:
    config = settings("sdxl", files, *GUIDED, "gradient_checkpointing=true")
    loops = [
        loop_of(config, make(config, accelerator), accelerator, None)
        for make in (shared_networks, separate_networks)
    ]
    start = factors_of(loops[0].networks.student.raw)[0].clone()
    for step in range(3):
        losses = [loop.train_step(step) for loop in loops]
        assert losses[0].fake_loss == losses[1].fake_loss
        assert losses[0].student_loss == losses[1].student_loss
    for role in ("student", "fake_score"):
        ours, theirs = (factors_of(getattr(loop.networks, role).raw) for loop in loops)
        assert len(ours) == len(theirs) > 0
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert not torch.equal(factors_of(loops[0].networks.student.raw)[0], start)


def test_nodes_answer_as_their_merged_weights_and_nothing_writes_to_the_base(
    files: Path, accelerator: Accelerator, tmp_path: Path, teacher, asked
) -> None:
    config = settings("sdxl", files, *GUIDED, "gradient_checkpointing=true")
    networks = shared_networks(config, accelerator)
    loop = loop_of(config, networks, accelerator, tmp_path / "path")
    own = {name: value for name, value in networks.base.state_dict().items() if "lora" not in name}
    kept, answered = {name: value.clone() for name, value in own.items()}, []
    for step in range(config.distill.num_steps):
        result = loop.train_step(step)
        answered.append(result.turn.node)
        with loop.real_score() as real_score, torch.no_grad():
            found = real_score(*asked)
        node = result.turn.node
        path = DegradationPath.open(tmp_path / "path")
        expected = teacher(*asked)
        if node:
            prefix = "network.network.unet."
            factors = {name.removeprefix(prefix): v for name, v in path.read(node).items()}
            with torch.no_grad():
                expected = merged(teacher, factors)(*asked)
            assert not torch.allclose(found, teacher(*asked), rtol=0, atol=1e-6)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert answered == [0, 0, 0, 2, 1, 0, 0]
    assert same_bits(own, kept)
    sizes = [entry.bytes for entry in path.nodes]
    assert max(sizes) < sum(value.numel() * value.element_size() for value in own.values()) / 2
