"""FastGen's adapter and callback: what they refuse, and who answers for the teacher."""

import copy
from pathlib import Path
from types import MappingProxyType, MethodType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from disback_plugin import DisBack, DisBackConfig, get_adapter
from disback_plugin.adapters.fastgen.teacher import answering
from disback_plugin.errors import AdapterError, ConfigError
from tests.adapters.fastgen.contract import DisBackCallback, DMD2Model, FastGenContract

RECORD = {"num_steps": 3, "at": [1, 3]}


def make_model() -> Any:
    torch.manual_seed(0)
    return DMD2Model(SimpleNamespace(student_update_freq=2, guidance_scale=None))


def attach(model: Any, **settings: Any) -> DisBack:
    return DisBack.attach(model, adapter="fastgen", config=DisBackConfig(**settings))


def test_a_model_without_a_fake_score_is_refused() -> None:
    model = make_model()
    del model.fake_score
    with pytest.raises(AdapterError, match="FastGen's DMD2Model has no fake_score: .*FdistillMod"):
        attach(model, arm="fixed")


def test_a_model_without_the_student_step_is_refused() -> None:
    model = nn.Module()
    model.teacher, model.fake_score, model.net = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
    with pytest.raises(AdapterError, match="Module has no _student_update_step, in which nodes"):
        attach(model, arm="fixed")


def test_nodes_are_never_installed_in_the_teacher_itself() -> None:
    with pytest.raises(AdapterError, match=r"installs nodes 'separate' only \(asked: 'in-place'\)"):
        attach(make_model(), arm="fixed", installation="in-place")
    disback = attach(make_model(), arm="fixed", installation="separate")
    assert disback.installation.needs_real_score


def test_the_adapter_says_where_the_roles_are() -> None:
    assert get_adapter("fastgen").found_at == ("model.teacher", "model.fake_score", "model.net")


def test_the_node_predicts_and_the_teacher_gives_features_and_gradients() -> None:
    model = make_model()
    teacher, node = model.teacher, copy.deepcopy(model.net).requires_grad_(False)
    with torch.no_grad():
        node.first.weight += 0.1
        node.last.weight -= 0.1
    x, t, condition = torch.randn(3, 6, requires_grad=True), torch.ones(3), torch.eye(3)
    own_x0, own_features = teacher(x, t, condition, feature_indices={0})
    expected = node(x, t, condition)
    with answering(teacher, node):
        x0, features = teacher(x, t, condition=condition, feature_indices={0}, fwd_pred_type="x0")
        alone = teacher(x, t, condition=condition, fwd_pred_type="x0")
        early = teacher(x, t, condition, return_features_early=True, feature_indices={0})
    assert torch.equal(x0, expected)
    assert torch.equal(alone, expected)
    assert not torch.equal(x0, own_x0)
    assert torch.equal(features[0], own_features[0])
    assert torch.equal(early[0], own_features[0])
    assert features[0].requires_grad
    assert not x0.requires_grad
    assert torch.equal(teacher(x, t, condition), own_x0)


def test_the_teacher_is_itself_again_after_an_error_and_keeps_a_forward_of_its_own() -> None:
    teacher, node = nn.Linear(1, 1), nn.Linear(1, 1)
    with pytest.raises(RuntimeError), answering(teacher, node):
        teacher(torch.ones(1, 2))
    assert "forward" not in vars(teacher)
    own = vars(teacher)["forward"] = lambda x: 7 * x
    with answering(teacher, node):
        assert torch.equal(teacher(torch.ones(1)), node(torch.ones(1)))
    assert vars(teacher)["forward"] is own
    with answering(teacher, teacher):
        assert teacher(1) == 7
    assert vars(teacher)["forward"] is own


def test_a_node_of_a_network_with_replaced_methods_uses_its_own_weights() -> None:
    """FastGen gives parts of Wan another `forward`, bound to the part."""
    model = make_model()
    part = model.teacher.first
    part.forward = MethodType(lambda self, x: 2 * nn.functional.linear(x, self.weight), part)
    installation = attach(model, arm="fixed").installation
    node = {name: value + 0.1 for name, value in model.teacher.state_dict().items()}
    installation.install(1, node)
    with installation.evaluate() as network:
        given = network.first(torch.ones(10))
    assert torch.allclose(given, 2 * node["first.weight"].sum(1))


def test_the_student_is_held_by_its_frequency_which_comes_back(tmp_path: Path) -> None:
    host = FastGenContract()
    schedule = {"name": "fixed", "interval": 2}
    callback = DisBackCallback(str(tmp_path / "path"), record=RECORD, schedule=schedule)
    callback.config = SimpleNamespace(
        model=host.model.config, dataloader_train=SimpleNamespace(batch_size=4)
    )
    callback.on_optimizer_init_end(host.model)
    host.trainer.callbacks._callbacks["disback"] = callback
    seen = []
    for step in range(5):
        host.train_step(step, None)
        seen.append(host.model.config.student_update_freq)
    assert seen[0] == seen[1] == seen[2] > 10**18
    assert seen[3:] == [2, 2]
    assert callback.disback.path.manifest.recording["host"] == {
        "method": "DMD2Model",
        "model.guidance_scale": 2.0,
        "dataloader_train.batch_size": 4,
    }
    host.model.config.student_update_freq = 5  # by somebody else: there is nothing to give back
    callback.on_training_step_begin(host.model, 7)
    callback.on_train_end(host.model)
    assert host.model.config.student_update_freq == 5


def test_a_checkpoint_made_without_the_callback_is_where_it_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the other hosts' overlays: the fake score becomes the teacher, the student stays."""
    host = FastGenContract()
    teacher, trained = host.model.teacher.state_dict(), copy.deepcopy(host.model.net.state_dict())
    callback = DisBackCallback(str(tmp_path / "path"), record=RECORD)
    callback.on_optimizer_init_end(host.model)
    with torch.no_grad():  # the checkpoint's
        for parameter in host.model.fake_score.parameters():
            parameter += 1.0
    callback.on_load_checkpoint_end(host.model, iteration=6)
    assert "iteration 6 was made without DisBack" in caplog.text
    callback.on_training_step_begin(host.model, 7)  # refused unless it starts as the teacher
    assert callback.disback.num_record_steps == 3
    fake = host.model.fake_score.state_dict()
    assert all(torch.equal(fake[name], value) for name, value in teacher.items())
    assert all(torch.equal(host.model.net.state_dict()[name], trained[name]) for name in trained)


def test_wrong_settings_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="the disback callback: record: .*give exactly one of"):
        DisBackCallback("path", record={"num_steps": 3})
    with pytest.raises(ConfigError, match="arm 'disback' needs 'path'"):
        DisBackCallback(record=RECORD)
    with pytest.raises(ConfigError, match="unknown schedule 'fixd'; did you mean 'fixed'"):
        DisBackCallback("path", record=RECORD, schedule={"name": "fixd"})


def test_settings_of_other_mapping_types_are_plain_ones() -> None:
    """A configuration library hands over its own dicts and lists."""
    record = MappingProxyType({"num_steps": 3, "at": (1, 3)})
    callback = DisBackCallback("path", record=record)
    assert callback.settings == DisBackConfig(path=Path("path"), record=RECORD)


def test_in_a_sharded_teacher_nodes_are_installed_in_place_unless_it_gives_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from disback_plugin.adapters import fastgen

    model, config = make_model(), DisBackConfig(arm="fixed")
    kinds = []
    for sharded, discriminator in ((False, None), (False, nn.Linear(1, 1)), (True, None)):
        monkeypatch.setattr(fastgen, "is_fully_sharded", lambda network, is_it=sharded: is_it)
        model.discriminator, adapter = discriminator, fastgen.FastGenAdapter()
        kinds.append(adapter.installation_kind(adapter.roles(model), config))
    assert kinds == ["separate", "separate", "in-place"]
    model.discriminator, adapter = nn.Linear(1, 1), fastgen.FastGenAdapter()
    with pytest.raises(
        AdapterError, match="a sharded network cannot be copied. Set model.gan_loss"
    ):
        adapter.installation_kind(adapter.roles(model), config)
