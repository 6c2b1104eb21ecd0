"""Adapters: registered by name, from packages too; roles that miss are named."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import disback_plugin.adapter as registry
from disback_plugin import DisBack, DisBackConfig, get_adapter, list_adapters, register_adapter
from disback_plugin.adapter import Adapter, Roles
from disback_plugin.adapters import GenericAdapter
from disback_plugin.errors import AdapterError, ConfigError
from tests.session.common import attach, settings
from tests.toy import ToyHost


class HostAdapter(Adapter):
    name = "toy-host"

    def roles(self, host):
        return Roles(host.teacher, host.fake_score, host.student)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_ADAPTERS", dict(registry._ADAPTERS))


def test_generic_is_built_in():
    assert get_adapter("generic") is GenericAdapter
    assert "generic" in list_adapters()


def test_a_registered_adapter_finds_the_roles_of_its_host():
    register_adapter(HostAdapter)
    host = ToyHost()
    disback = DisBack.attach(host, adapter="toy-host", config=DisBackConfig(arm="fixed"))
    with disback.real_score() as real:
        assert real is host.teacher


def test_a_taken_name_is_refused_and_the_same_class_may_register_twice():
    register_adapter(HostAdapter)
    register_adapter(HostAdapter)

    class Other(HostAdapter):
        pass

    with pytest.raises(AdapterError, match="'toy-host' is already registered by HostAdapter"):
        register_adapter(Other)


def test_what_is_no_adapter_or_cannot_find_roles_is_refused_when_registered():
    class Nameless(Adapter):
        def roles(self, host):
            raise NotImplementedError

    class Roleless(Adapter):
        name = "roleless"

    class Empty(HostAdapter):
        name = ""

    for given, reason in (
        (Nameless, "Nameless has no `name`"),
        (Roleless, r"'roleless' \(.*Roleless\) has no method roles\(host\)"),
        (Empty, "Empty has no `name`"),
        (ToyHost, "ToyHost'> is no class derived from .*Adapter"),
    ):
        with pytest.raises(AdapterError, match=reason):
            register_adapter(given)
    assert {"roleless", ""}.isdisjoint(list_adapters())


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(AdapterError, match="unknown adapter 'generik'; did you mean 'generic'"):
        get_adapter("generik")


def test_an_installed_package_registers_through_its_entry_point(monkeypatch):
    point = EntryPoint("toy-host", f"{__name__}:HostAdapter", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert get_adapter("toy-host").__qualname__ == "HostAdapter"
    assert {"generic", "toy-host"} <= set(list_adapters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda roles: roles.pop("student"), r"'student' must be a torch.nn.Module \(seen: noth"),
        (lambda roles: roles.update(teacher=3), r"'teacher' must be .*\(seen: int\)"),
        (lambda roles: roles.update(fake_scor=roles["teacher"]), "did you mean 'fake_score'"),
        (lambda roles: roles.update(student=roles["teacher"]), "a network of its own"),
    ],
)
def test_wrong_roles_are_named(change, message):
    roles = ToyHost().roles
    change(roles)
    with pytest.raises(AdapterError, match=message):
        DisBack.attach(roles=roles, config=DisBackConfig(arm="fixed"))


def test_host_and_roles_exclude_each_other():
    config = DisBackConfig(arm="fixed")
    with pytest.raises(ConfigError, match="either a host"):
        DisBack.attach(config=config)
    with pytest.raises(ConfigError, match="either a host"):
        DisBack.attach(ToyHost(), roles=ToyHost().roles, config=config)
    with pytest.raises(AdapterError, match="takes roles=dict"):
        DisBack.attach(ToyHost(), config=config)


def test_the_installation_can_be_chosen(tmp_path):
    for kind, shares in (("in-place", True), ("separate", False)):
        host = ToyHost()
        disback = attach(host, settings(tmp_path / kind, installation=kind))
        host.run(disback, range(7))
        with disback.real_score() as real:
            assert (real is host.teacher) == shares
            assert isinstance(real, nn.Module)
            assert torch.is_tensor(real(torch.zeros(1, 4)))


def test_roles_that_share_weights_are_refused(host):
    shared = nn.Sequential(host.teacher)  # another object, the same parameters
    for role, pair in (
        ("student", "student and teacher"),
        ("fake_score", "teacher and fake_score"),
    ):
        with pytest.raises(AdapterError, match=f"{pair} share 6 parameters"):
            DisBack.attach(roles=host.roles | {role: shared}, config=DisBackConfig(arm="fixed"))


def test_a_broken_package_of_somebody_else_does_not_take_the_others_down(
    monkeypatch, caplog, tmp_path
):
    broken = EntryPoint("broken", "no_such_module:Adapter", registry.ENTRY_POINT_GROUP)
    other = EntryPoint("other", "tests.toy:ToyHost", registry.ENTRY_POINT_GROUP)
    (tmp_path / "module_that_exits.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    exits = EntryPoint("exits", "module_that_exits:Adapter", registry.ENTRY_POINT_GROUP)
    good = EntryPoint("toy-host", f"{__name__}:HostAdapter", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken, exits, other, good])
    assert "toy-host" in list_adapters()
    assert "'broken' of no_such_module:Adapter cannot be used" in caplog.text
    assert "'exits' of module_that_exits:Adapter cannot be used: it exits (3)" in caplog.text
    assert "'other' of tests.toy:ToyHost cannot be used: <class" in caplog.text


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Roles(nn.Linear(1, 1), None, nn.Linear(1, 1)), r"found no fake_score: .*seen: NoneType\)"),
        (None, r"return Roles\(teacher=.* \(seen: NoneType\)"),
        ({"teacher": nn.Linear(1, 1)}, r"return Roles\(teacher=.* \(seen: dict\)"),
    ],
)
def test_an_adapter_that_misses_a_role_or_returns_something_else_is_told(given, reason):
    class Careless(HostAdapter):
        name = "careless"

        def roles(self, host):
            return given

    register_adapter(Careless)
    with pytest.raises(AdapterError, match=reason):
        DisBack.attach(ToyHost(), adapter="careless", config=DisBackConfig(arm="fixed"))


def test_an_adapter_says_where_it_comes_from(monkeypatch):
    register_adapter(HostAdapter)
    assert registry.origin("generic") == "built in"
    assert registry.origin("toy-host") == __name__
    package = SimpleNamespace(name="toy-package", version="1.2")
    point = SimpleNamespace(name="x", value="y", load=lambda: HostAdapter, dist=package)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    monkeypatch.setattr(registry, "_PACKAGES", {})
    list_adapters()
    assert registry.origin("toy-host") == "toy-package 1.2"
