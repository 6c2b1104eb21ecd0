"""Nodes as LoRA states: base and trained adapter stay untouched, only the real score changes."""

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from peft import LoraConfig, get_peft_model, inject_adapter_in_model

from disback_plugin import DegradationPath, DisBack, DisBackConfig, PathNodeScheduler, RecordConfig
from disback_plugin.errors import InstallError
from disback_plugin.real_score.lora import LoRAAdapter
from disback_plugin.schedule import FixedInterval
from tests.hosts.toy import same, tensors_of


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.second(torch.nn.functional.silu(self.first(x)))


def injected():
    torch.manual_seed(0)
    base = Base()
    base.requires_grad_(False)
    config = LoraConfig(r=2, target_modules=["first", "second"])
    return inject_adapter_in_model(config, base, adapter_name="default")


def peft_model():
    torch.manual_seed(0)
    return get_peft_model(Base(), LoraConfig(r=2, target_modules=["first", "second"]))


@pytest.fixture(params=[injected, peft_model])
def model(request):
    return request.param()


@pytest.fixture
def x():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(3))


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def train(model, steps=3, lr=0.005):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().sum().backward()
        optimizer.step()


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
        path.append(installation.read_fake_score(), step, installation.measure)
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
        path.append(installation.read_fake_score(), step, installation.measure)
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
    entry = path.append(installation.read_fake_score(), 1, installation.measure)
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


def test_a_session_with_a_shared_base_records_and_walks_back(tmp_path, x):
    model, student = injected(), nn.Linear(4, 4)
    with torch.no_grad():
        base_out = model(x)
    config = DisBackConfig(
        path=tmp_path / "path",
        record=RecordConfig(num_steps=3, every=1),
        schedule={"name": "fixed", "interval": 2},
    )
    disback = DisBack.attach(
        roles={"teacher": model, "fake_score": model, "student": student}, config=config
    )
    nodes = []
    for step in range(8):
        turn = disback.begin_step(step)
        nodes.append(turn.node)
        train(model, steps=1)
        disback.end_step(step)
    assert nodes == [0, 0, 0, 2, 2, 1, 1, 0]
    with disback.real_score() as real, torch.no_grad():
        assert torch.equal(real(x), base_out)
