"""What a host with LoRA does around DisBack: switches, checkpoints, dtypes, dropout."""

import copy

import pytest
import torch

pytest.importorskip("peft")

from peft import LoraConfig

from disback_plugin.real_score.lora import LoRAAdapter
from tests.real_score.lora_host import (
    Base,
    adapted,
    injected,
    moved,
    peft_model,
    train,
    trainable,
    with_node,
)
from tests.toy import same

BOTH = pytest.mark.parametrize("make", [injected, peft_model])


def lora_modules(model):
    return [module for module in model.modules() if hasattr(module, "lora_A")]


def set_enabled(model, enabled):
    for layer in lora_modules(model):
        layer.enable_adapters(enabled)


@BOTH
def test_a_node_answers_although_the_host_has_adapters_disabled_and_they_stay_so(make, x):
    model = moved(make())
    node_out = model(x).detach()
    installation = with_node(model)
    set_enabled(model, False)
    bare, flags = model(x), trainable(model)
    assert not torch.equal(bare, node_out)
    with installation.evaluate() as real:
        assert torch.equal(real(x), node_out)
    assert torch.equal(model(x), bare)
    assert trainable(model) == flags
    set_enabled(model, True)
    assert torch.equal(model(x), node_out)


def test_a_node_answers_inside_pefts_disable_adapter(x):
    model = moved(peft_model())
    node_out, flags = model(x).detach(), trainable(model)
    installation = with_node(model)
    with model.disable_adapter():
        bare = model(x)
        with installation.evaluate() as real:
            assert torch.equal(real(x), node_out)
        assert torch.equal(model(x), bare)
    assert torch.equal(model(x), node_out)
    assert trainable(model) == flags


def test_a_node_answers_between_diffusers_disable_and_enable_adapters():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=4,
    )
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v", "conv1"]))
    moved(model)
    inputs = torch.randn(1, 4, 8, 8), 1, torch.randn(1, 3, 8)
    keys = model.state_dict().keys()
    with torch.no_grad():
        node_out = model(*inputs).sample
        installation = with_node(model)
        model.disable_adapters()
        bare = model(*inputs).sample
        with installation.evaluate() as real:
            assert torch.equal(real(*inputs).sample, node_out)
        assert torch.equal(model(*inputs).sample, bare)
        model.enable_adapters()
        assert torch.equal(model(*inputs).sample, node_out)
    assert not torch.equal(bare, node_out)
    assert model.active_adapters() == ["default"]
    assert model.state_dict().keys() == keys


@BOTH
def test_attaching_while_adapters_are_disabled_leaves_them_disabled(make, x):
    model = moved(make())
    set_enabled(model, False)
    bare = model(x)
    with_node(model)
    assert torch.equal(model(x), bare)


@BOTH
def test_the_node_is_frozen_while_it_answers(make, x):
    installation = with_node(moved(make()))
    x.requires_grad_(True)
    with installation.evaluate() as real:
        real(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for n, p in installation.model.named_parameters() if "lora" in n)


def test_a_bf16_base_keeps_the_nodes_float32(x):
    model = moved(adapted(Base().bfloat16()))
    for layer in lora_modules(model):
        layer.lora_A["default"].float()
        layer.lora_B["default"].float()
    moved(model, size=1e-4)  # lost in bf16
    installation = LoRAAdapter(model, "nearest")
    node = installation.read_fake_score()
    assert installation.install(1, node).rounding_error == 0
    assert same(installation._adapter_tensors("disback_node"), node)
    expected = model(x.bfloat16())
    with installation.evaluate() as real:
        assert torch.equal(real(x.bfloat16()), expected)


def test_a_node_has_no_dropout_in_train_mode_and_draws_no_numbers(x):
    model = moved(adapted(lora_dropout=0.5)).eval()
    node_out = model(x)
    installation = with_node(model)
    model.train()
    state = torch.get_rng_state()
    with installation.evaluate() as real:
        assert real.training
        assert torch.equal(real(x), node_out)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(model(x), model(x))  # the host's own dropout still works


@BOTH
def test_checkpoints_made_without_disback_load_with_it_and_the_other_way(make, x):
    before, model = moved(make()), make()
    installation = with_node(model)
    assert model.state_dict().keys() == before.state_dict().keys()
    model.load_state_dict(before.state_dict(), strict=True)
    assert torch.equal(model(x), before(x))
    train(model)
    bare = make()
    bare.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(bare(x), model(x))
    assert same(installation.read_fake_score(), LoRAAdapter(bare, "nearest").read_fake_score())


@BOTH
def test_the_host_sees_no_new_parameters_and_no_new_adapter(make):
    model = make()
    names, configs = [n for n, _ in model.named_parameters()], set(model.peft_config)
    with_node(model)
    assert [n for n, _ in model.named_parameters()] == names
    assert set(model.peft_config) == configs


def test_save_pretrained_writes_the_hosts_adapter_only(tmp_path, x):
    model = moved(peft_model())
    with_node(model)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    loaded = peft_model()
    loaded.load_adapter(tmp_path, "again")
    loaded.set_adapter("again")
    assert torch.equal(loaded(x), model(x))


def test_detaching_leaves_the_model_as_it_was(x):
    model = moved(injected())
    modules, out, flags = {n for n, _ in model.named_modules()}, model(x), trainable(model)
    installation = with_node(model)
    assert {n for n, _ in model.named_modules()} != modules
    installation.detach()
    assert {n for n, _ in model.named_modules()} == modules
    assert trainable(model) == flags
    assert torch.equal(model(x), out)


def test_attaching_again_starts_from_an_empty_node(x):
    model = moved(injected())
    with_node(model)
    again = LoRAAdapter(copy.deepcopy(model), "nearest")
    assert not any(value.any() for value in again._adapter_tensors("disback_node").values())
    assert torch.equal(again.model(x), model(x))


def test_only_the_random_state_of_devices_in_use_is_forked(monkeypatch):
    forked, fork = [], torch.random.fork_rng

    def recording(devices=None, **settings):
        forked.append(devices)
        return fork(devices=devices, **settings)

    monkeypatch.setattr(torch.random, "fork_rng", recording)
    LoRAAdapter(injected(), "nearest")
    assert forked == [[]]
