"""Good hosts pass every check; a host that breaks a rule fails the check of that rule."""

import pytest
import torch
from torch import Tensor

from disback_plugin.real_score import InPlace
from disback_plugin.testing import CHECKS, ContractError, check_adapter
from tests.testing import toy_contract as toys

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("make_host", [toys.ToyContract, toys.SeparateContract])
def test_good_hosts_pass_every_check(make_host):
    assert check_adapter(make_host) == list(CHECKS)


@pytest.mark.parametrize(
    ("check", "make_host", "message"),
    [
        ("off", toys.Unseeded, "two hosts of make_host train differently: seed them"),
        ("off", toys.DrawsOnAttach, r"switched off .* trains differently .*step 0: losses"),
        ("recording", toys.MovesTheTeacher, "the real score changed at step 0, while recording"),
        ("nodes", toys.WrongTeacher, r"step 6 .* node 3, recorded after step 4 \(it answers as"),
        ("used", toys.ForgetsTheNode, "does not ask the installed real score"),
        ("resume", toys.ForgetsItsOptimizer, r"resumed at step 3 of 14, .* \(first at step 3"),
        ("ranks", toys.Unsynchronised, "students differ at step 6: the update is not synchronised"),
    ],
)
def test_a_broken_host_fails_the_check_of_its_rule(check, make_host, message):
    with pytest.raises(ContractError, match=message):
        CHECKS[check](make_host)


def test_a_fake_score_that_stands_still_is_found_by_the_session_itself():
    with pytest.raises(ValueError, match=r"node_0001\.safetensors equals the teacher"):
        CHECKS["recording"](toys.FrozenFake)


def test_an_installation_that_loads_loosely_fails_the_check_strict(monkeypatch):
    install = InPlace.install

    def loose(self, node, tensors):
        names = self.reference.tensors
        known = {name: tensors.get(name, names[name]) for name in names}
        fitting = {k: v if v.shape == names[k].shape else names[k] for k, v in known.items()}
        return install(self, node, fitting)

    monkeypatch.setattr(InPlace, "install", loose)
    with pytest.raises(ContractError, match="a node with a missing tensor was installed"):
        CHECKS["strict"](toys.ToyContract)


def test_the_error_names_the_check_and_skipped_checks_do_not_run():
    with pytest.raises(ContractError, match="^off: two hosts"):
        check_adapter(toys.Unseeded)
    with pytest.raises(ValueError, match="no check 'rank'; there are off, recording"):
        check_adapter(toys.ToyContract, skip=["rank"])
    rest = [name for name in CHECKS if name != "off"]
    assert check_adapter(toys.ToyContract, skip=rest) == ["off"]


def test_a_make_host_that_other_processes_cannot_import_is_named():
    def local() -> toys.ToyContract:
        return toys.ToyContract()

    with pytest.raises(ContractError, match="define it at the top level of a module"):
        CHECKS["ranks"](local)


def test_the_notes_leave_the_random_state_alone():
    class Draws(toys.ToyContract):
        def predict_fake(self) -> Tensor:
            torch.randn(5)
            return super().predict_fake()

    CHECKS["off"](Draws)
    CHECKS["resume"](Draws)
