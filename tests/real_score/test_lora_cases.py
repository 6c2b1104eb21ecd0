"""Which LoRA adapters a node can hold, and how far from the teacher it says it is."""

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from disback_plugin.errors import InstallError
from disback_plugin.real_score.lora import LoRAAdapter
from tests.real_score.lora_host import adapted, injected, moved, trainable, with_node
from tests.toy import same, tensors_of


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": "all"}, "bias='all'.*bias='none'"),
        ({"bias": "lora_only"}, "bias='lora_only'.*bias='none'"),
        ({"modules_to_save": ["second"], "targets": ["first"]}, "modules_to_save=.*'second'"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base"),
        ({"init_lora_weights": "olora"}, "'olora', which changes the base"),
    ],
)
def test_adapters_that_a_node_cannot_hold_are_refused_and_nothing_changes(settings, message, x):
    model = adapted(**settings)
    tensors, flags = tensors_of(model), trainable(model)
    with pytest.raises(InstallError, match=message):
        LoRAAdapter(model, "nearest")
    assert same(tensors_of(model), tensors)
    assert trainable(model) == flags


def test_a_merged_adapter_is_refused():
    model = moved(injected())
    installation = with_node(model)
    model.first.merge()
    with pytest.raises(InstallError, match="unmerge"), installation.evaluate():
        pass
    with pytest.raises(InstallError, match="unmerge"):
        LoRAAdapter(model, "nearest")


def test_recording_starts_only_where_the_adapter_changes_nothing():
    LoRAAdapter(injected(), "nearest").check_start()
    with pytest.raises(InstallError, match=r"adapter 'default' changes the base by 0\.\d+"):
        LoRAAdapter(moved(injected()), "nearest").check_start()


def test_measuring_uses_the_given_tensors_and_leaves_node_and_adapter_alone(x):
    model = moved(injected())
    installation = with_node(model)
    node = installation.read_fake_score()
    doubled = {name: value * (2 if "lora_B" in name else 1) for name, value in node.items()}
    once, twice = installation.precision_of(node), installation.precision_of(doubled)
    assert twice.distance == pytest.approx(2 * once.distance, rel=1e-6)
    assert installation.install(1, node).changed_tensors == 0
    assert same(installation.read_fake_score(), node)


def test_the_bf16_figures_are_of_the_cast_adapter_not_of_merged_weights():
    installation = LoRAAdapter(injected(), "nearest")
    node = {
        name: torch.full_like(value, 1e-4 * (1 + 2**-9))  # 1 + 2**-9 rounds to 1 in bf16
        for name, value in installation.read_fake_score().items()
    }
    measured = installation.precision_of(node)
    cast = installation.precision_of({name: value.bfloat16() for name, value in node.items()})
    assert measured.bf16_distance == cast.distance != measured.distance
    assert measured.bf16_distance == pytest.approx(measured.distance, rel=0.02)
    assert measured.bf16_survives == 1  # merged into bf16 weights, nothing this small would
    gone = {name: value * 1e-35 for name, value in node.items()}
    assert installation.precision_of(gone).bf16_survives == 0


class Mixed(nn.Module):
    """A layer of every kind a diffusion network adapts."""

    def __init__(self):
        super().__init__()
        self.table, self.conv = nn.Embedding(5, 4), nn.Conv1d(4, 4, 3, padding=1)
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        tokens = self.table((x > 0).sum(1))
        return self.linear(self.conv((x + tokens)[..., None])[..., 0])


@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (["linear", "conv"], {}),
        (["linear", "conv", "table"], {}),
        (["linear"], {"use_dora": True}),
        (["linear"], {"lora_bias": True}),
        (["linear", "conv"], {"use_rslora": True, "rank_pattern": {"conv": 4}}),
        (["linear"], {"init_lora_weights": "gaussian"}),
    ],
)
def test_every_kind_of_layer_answers_as_recorded(targets, settings, x):
    torch.manual_seed(1)
    model = moved(adapted(Mixed(), targets, **settings))
    node_out = model(x).detach()
    installation = with_node(model)
    state = model.state_dict()
    moved(model, size=0.3)
    changed_out = model(x)
    assert not torch.equal(changed_out, node_out)
    with installation.evaluate() as real:
        assert torch.equal(real(x), node_out)
        node = installation._adapter_tensors("disback_node").values()
        assert not any(value.requires_grad for value in node)
    assert torch.equal(model(x), changed_out)
    assert not any("disback" in name for name in state)
