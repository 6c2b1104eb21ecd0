"""Model Optimizer's adapter: what it finds and refuses; who answers in a pipeline's losses."""

import copy
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from disback_plugin import DisBack, DisBackConfig, get_adapter
from disback_plugin.errors import AdapterError

pytest.importorskip("modelopt")
from tests.adapters.modelopt.loop import GAN, Loop, make_teacher

pytestmark = pytest.mark.slow  # the library takes seconds to import


def attach(pipeline: Any, **settings: Any) -> DisBack:
    config = DisBackConfig(arm="fixed", **settings)
    return DisBack.attach(pipeline, adapter="modelopt", config=config)


def shifted(teacher: nn.Module) -> dict[str, Tensor]:
    return {name: value + 0.1 for name, value in teacher.state_dict().items()}


def student_loss(loop: Loop, seed: int = 0) -> dict[str, Tensor]:
    """Of a fixed batch and fixed noise."""
    torch.manual_seed(seed)
    data = loop.batch()
    negative = torch.zeros_like(data["encoder_hidden_states"])
    return loop.pipeline.compute_student_loss(**data, negative_encoder_hidden_states=negative)


def loss_against(loop: Loop, teacher: nn.Module) -> Tensor:
    """The vsd loss of a plain pipeline with this teacher."""
    other = copy.copy(loop.pipeline)
    for name in ("compute_student_loss", "_disback_plain", "_predict_x0", "discriminator"):
        vars(other).pop(name, None)
    other.teacher, other.discriminator = teacher, None
    return student_loss(SimpleNamespace(pipeline=other, batch=loop.batch))["vsd"]  # type: ignore


@pytest.mark.parametrize("kind", ["in-place", "separate", "gan"])
@pytest.mark.parametrize("pred_type", ["flow", "v", "eps", "x0"])
def test_the_installed_node_answers_whatever_it_predicts(kind: str, pred_type: str) -> None:
    loop = Loop({"pred_type": pred_type, "guidance_scale": 3.0, **(GAN if kind == "gan" else {})})
    node = make_teacher().eval()  # without the hooks
    node.load_state_dict(shifted(loop.networks["teacher"]))
    of_teacher, of_node = (loss_against(loop, own) for own in (loop.networks["teacher"], node))
    disback = attach(loop.pipeline, installation=None if kind == "gan" else kind)
    assert torch.equal(student_loss(loop)["vsd"], of_teacher)
    disback.installation.install(1, node.state_dict())
    assert torch.equal(student_loss(loop)["vsd"], of_node)
    assert not torch.equal(of_node, of_teacher)
    disback.restore_teacher()
    assert torch.equal(student_loss(loop)["vsd"], of_teacher)


def test_features_and_the_gan_loss_stay_the_teachers_bit_for_bit() -> None:
    """The hooks that leave features are copied with the teacher, and leave theirs there too."""
    loop = Loop({"guidance_scale": 3.0, **GAN})
    seen: list[list[Tensor]] = []
    loop.pipeline.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    def features() -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
        seen.clear()
        losses = student_loss(loop)
        torch.manual_seed(1)
        critic = loop.pipeline.compute_discriminator_loss(**loop.batch())
        return [one for given in seen for one in given], losses["gan_gen"], critic

    plain, loss, critic = features()
    disback = attach(loop.pipeline)
    disback.installation.install(1, shifted(loop.networks["teacher"]))
    own, own_loss, own_critic = features()
    assert len(plain) == len(own) == 4
    assert all(torch.equal(*pair) for pair in zip(plain, own, strict=True))
    assert torch.equal(loss, own_loss)
    assert all(torch.equal(critic[name], own_critic[name]) for name in critic)
    assert own[0].requires_grad
    assert loop.networks["teacher"]._fastgen_captured == []


def test_the_newest_session_answers_and_an_error_leaves_the_pipeline_whole() -> None:
    loop = Loop(GAN)
    plain = student_loss(loop)["vsd"]
    first = attach(loop.pipeline)
    first.installation.install(1, shifted(loop.networks["teacher"]))
    attach(loop.pipeline)
    assert torch.equal(student_loss(loop)["vsd"], plain)
    with pytest.raises(TypeError):
        loop.pipeline.compute_student_loss()
    assert loop.pipeline._predict_x0 == type(loop.pipeline)._predict_x0.__get__(loop.pipeline)


def test_the_teacher_of_a_discriminator_takes_no_node_in_place() -> None:
    with pytest.raises(AdapterError, match="discriminator takes its features from the teacher: in"):
        attach(Loop(GAN).pipeline, installation="in-place")
    with pytest.raises(AdapterError, match="installs nodes 'in-place' or 'separate' only"):
        attach(Loop({}).pipeline, installation="lora")
    assert attach(Loop({}).pipeline).installation.name == "in-place"
    assert attach(Loop(GAN).pipeline).installation.name == "separate"


def test_what_is_no_pipeline_is_refused() -> None:
    with pytest.raises(AdapterError, match="Linear has no network 'teacher': modelopt attaches to"):
        attach(nn.Linear(1, 1))
    loop = Loop(GAN)
    other = SimpleNamespace(**vars(loop.pipeline))
    with pytest.raises(AdapterError, match=r"has no compute_student_loss\(\), in which .* 0.47.0"):
        attach(other)
    places = "pipeline.teacher", "pipeline.fake_score", "pipeline.student"
    assert get_adapter("modelopt").found_at == places


def test_a_host_that_is_not_used_is_not_imported() -> None:
    code = (
        "import sys, disback_plugin.adapters; print({'modelopt', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
