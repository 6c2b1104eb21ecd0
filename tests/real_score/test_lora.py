"""Nodes as LoRA states: base and trained adapter stay untouched, only the real score changes."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from peft import LoraConfig, inject_adapter_in_model

from disback_plugin import DegradationPath, DisBack, DisBackConfig, PathNodeScheduler, RecordConfig
from disback_plugin.errors import AdapterError, InstallError
from disback_plugin.real_score.lora import LoRAAdapter
from disback_plugin.real_score.lora_layers import lora_layers
from disback_plugin.schedule import FixedInterval
from tests.real_score.lora_host import Base, injected, peft_model, train, trainable
from tests.toy import same, tensors_of


@pytest.fixture(params=[injected, peft_model])
def model(request):
    return request.param()


def test_attaching_changes_neither_outputs_nor_flags_nor_random_state(model, x):
    flags, out, rng = trainable(model), model(x), torch.get_rng_state()
    LoRAAdapter(model, "nearest")
    assert trainable(model) == flags
    assert torch.equal(model(x), out)
    assert torch.equal(torch.get_rng_state(), rng)


def test_nodes_answer_as_the_real_score_while_base_and_trained_adapter_stay(model, x, tmp_path):
    with torch.no_grad():
        base_out = model(x)  # LoRA starts at B = 0: the base's own answer
    installation = LoRAAdapter(model, "nearest")
    path = DegradationPath.create(tmp_path, installation.reference)
    outputs = []
    for step in (1, 2, 3):
        train(model)
        path.append(installation.read_fake_score(), step, installation.precision_of)
        outputs.append(model(x).detach())
    path.finish()
    frozen, flags = tensors_of(model), trainable(model)
    strategy = PathNodeScheduler(installation, path, FixedInterval(interval=1))
    for step, expected in enumerate([outputs[1], outputs[0], base_out, base_out]):
        strategy.begin_step(step)
        with strategy.evaluate() as real, torch.no_grad():
            torch.testing.assert_close(real(x), expected, rtol=0, atol=1e-6)
        assert torch.equal(model(x), outputs[2])  # the fake score answers as before
        assert trainable(model) == flags
    others = {k: v for k, v in tensors_of(model).items() if "disback_node" not in k}
    assert same(others, {k: v for k, v in frozen.items() if "disback_node" not in k})


def test_gradients_reach_only_the_trained_adapter_after_an_evaluation(model, x, tmp_path):
    installation = LoRAAdapter(model, "nearest")
    path = DegradationPath.create(tmp_path, installation.reference)
    for step in (1, 2):
        train(model)
        path.append(installation.read_fake_score(), step, installation.precision_of)
    PathNodeScheduler(installation, path, FixedInterval(interval=1)).begin_step(0)
    with installation.evaluate() as real, torch.no_grad():
        real(x)
    model(x).sum().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == trainable(model)
    assert all("default" in name for name in with_gradient)


def test_a_node_is_a_few_small_tensors_with_the_distance_of_the_merged_weights(model, tmp_path):
    installation = LoRAAdapter(model, "nearest")
    train(model)
    path = DegradationPath.create(tmp_path, installation.reference)
    entry = path.append(installation.read_fake_score(), 1, installation.precision_of)
    assert sum(value.numel() for value in path.read(1).values()) == 2 * (2 * 4 + 2 * 8)
    layers = [m for m in model.modules() if hasattr(m, "get_delta_weight")]
    gap = sum(m.get_delta_weight("default").square().sum() for m in layers) ** 0.5
    size = sum(m.get_base_layer().weight.square().sum() for m in layers) ** 0.5
    assert entry.distance == pytest.approx((gap / size).item(), rel=1e-5)


def test_a_path_of_another_base_is_refused(tmp_path):
    first = LoRAAdapter(injected(), "nearest")
    DegradationPath.create(tmp_path, first.reference)
    other = injected()
    with torch.no_grad():
        other.first.base_layer.weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"1 of 4 tensors differ \(first: \['first.base_layer"):
        DegradationPath.open(tmp_path, LoRAAdapter(other, "nearest").reference)


def test_one_module_without_lora_is_refused():
    with pytest.raises(InstallError, match="no LoRA layer"):
        LoRAAdapter(Base(), "nearest")


def attach(model, folder, student=None):
    torch.manual_seed(9)
    config = DisBackConfig(
        path=folder,
        record=RecordConfig(num_steps=3, every=1),
        schedule={"name": "fixed", "interval": 2},
    )
    roles = {"teacher": model, "fake_score": model, "student": student or nn.Linear(4, 4)}
    return DisBack.attach(roles=roles, config=config)


class OfAdapter(nn.Module):
    """An adapter's weights alone, as a student on the same base has them."""

    def __init__(self, model, adapter):
        super().__init__()
        for name, value in model.named_parameters():
            if f".{adapter}." in name:
                self.register_parameter(name.replace(".", "_"), value)


def with_a_student(model, trained="default"):
    """A second adapter on the base; `trained` is the active one again."""
    config = LoraConfig(r=2, target_modules=["first", "second"])
    with pytest.warns(UserWarning, match="Already found a `peft_config`"):
        inject_adapter_in_model(config, model, adapter_name="student")
    for layer in lora_layers(model):
        layer.set_adapter(trained)
    return model


def test_the_student_may_be_another_adapter_of_the_base(tmp_path, x):
    model = with_a_student(injected())
    disback = attach(model, tmp_path / "path", OfAdapter(model, "student"))
    steps = [one_step(disback, model, step, x) for step in range(8)]
    assert [node for node, _ in steps] == [0, 0, 0, 2, 2, 1, 1, 0]
    names = disback.path.read(1)
    assert sum(value.numel() for value in names.values()) == 2 * (2 * 4 + 2 * 8)


@pytest.mark.parametrize("trained", ["default", "student"])
def test_a_student_of_the_trained_adapter_or_of_the_base_is_refused(trained, tmp_path):
    model = with_a_student(injected(), trained)
    for student in (OfAdapter(model, trained), model.first.base_layer):
        with pytest.raises(AdapterError, match="student and teacher share [24] parameters"):
            attach(model, tmp_path / "path", student)


class Wrapper(nn.Module):
    """Something around the network that peft adapted."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 2 * self.network(x)


def test_the_adapted_network_may_be_inside_another(model, tmp_path, x):
    wrapped = Wrapper(model)
    disback = attach(wrapped, tmp_path / "path")
    steps = [one_step(disback, wrapped, step, x) for step in range(8)]
    assert [node for node, _ in steps] == [0, 0, 0, 2, 2, 1, 1, 0]
    assert set(model.peft_config) == {"default"}


def one_step(disback, model, step, x):
    """Returns the node that answers and its output; the fake score trains."""
    turn = disback.begin_step(step)
    with disback.real_score() as real, torch.no_grad():
        out = real(x)
    train(model, steps=1)
    disback.end_step(step)
    return turn.node, out


def test_a_session_with_a_shared_base_records_and_walks_back(model, tmp_path, x):
    with torch.no_grad():
        base_out = model(x)
    disback = attach(model, tmp_path / "path")
    steps = [one_step(disback, model, step, x) for step in range(8)]
    assert [node for node, _ in steps] == [0, 0, 0, 2, 2, 1, 1, 0]
    assert torch.equal(steps[7][1], base_out)


@pytest.mark.parametrize("last", [1, 3, 5])  # while recording; at the first node; at the second
def test_a_resumed_session_answers_as_an_uninterrupted_one(last, model, tmp_path, x):
    again = copy.deepcopy(model)
    disback = attach(model, tmp_path / "path")
    for step in range(last + 1):
        one_step(disback, model, step, x)
    weights, state = tensors_of(model), disback.state_dict()
    expected = [one_step(disback, model, step, x) for step in range(last + 1, 8)]
    resumed = attach(again, tmp_path / "path")
    again.load_state_dict(weights, strict=True)
    resumed.load_state_dict(state)
    found = [one_step(resumed, again, step, x) for step in range(last + 1, 8)]
    for (node, out), (expected_node, expected_out) in zip(found, expected, strict=True):
        assert node == expected_node
        assert torch.equal(out, expected_out)
    assert same(tensors_of(again), tensors_of(model))


def test_coming_back_to_a_node_from_the_teacher_counts_as_a_change(model):
    installation = LoRAAdapter(model, "nearest")
    untrained = installation.read_fake_score()
    assert installation.install(1, untrained).changed_tensors == 0  # B = 0: still the base
    installation.install(0, {})
    train(model)
    node = installation.read_fake_score()
    assert [installation.install(k, node).changed_tensors for k in (2, 2, 0, 2)] == [4, 0, 4, 4]


def test_an_adapter_named_like_a_module_keeps_its_nodes_names():
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["first", "second"])
    model = inject_adapter_in_model(config, Base(), adapter_name="first")
    installation = LoRAAdapter(model, "nearest")
    node = installation.read_fake_score()
    assert set(node) == {f"{m}.lora_{ab}.weight" for m in ("first", "second") for ab in "AB"}
    train(model)
    assert installation.install(1, installation.read_fake_score()).distance > 0
