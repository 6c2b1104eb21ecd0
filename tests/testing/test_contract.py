"""Good hosts pass every check; a host that breaks a rule fails the check of that rule."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from disback_plugin.real_score import InPlace, InstallReport
from disback_plugin.testing import CHECKS, ContractError, check_adapter, ranks
from tests.testing import toy_contract as toys

pytestmark = pytest.mark.slow
INSTALL = InPlace.install
BROKEN_IN_TWO = (toys.UnsynchronisedFake, toys.SameDataOnAllRanks)


def test_a_good_host_passes_every_check():
    assert check_adapter(toys.ToyContract) == list(CHECKS)


def test_a_good_host_with_the_node_beside_its_teacher_passes_in_one_process():
    assert check_adapter(toys.SeparateContract, skip=["ranks"]) == list(CHECKS)[:-1]


@pytest.mark.parametrize(
    ("check", "make_host", "message"),
    [
        ("off", toys.Unseeded, "two hosts of make_host train differently: seed them"),
        ("off", toys.DrawsOnAttach, r"switched off .* trains differently .*step 0: losses"),
        ("recording", toys.HoldsByZeroGradients, "optimizer, .* moved at step 0, while recording"),
        ("recording", toys.MovesTheTeacher, "the real score changed at step 0, while recording"),
        ("nodes", toys.WrongTeacher, r"step 6 .* node 3, recorded after step 4 \(it answers as"),
        ("used", toys.ForgetsTheNode, "does not ask the installed real score"),
        ("used", toys.KeepsItsFirstNetwork, "with the teacher back, .* otherwise than without"),
        ("reuse", toys.KeepsMasterWeights, "fake score trains on from the teacher, not from"),
        ("resume", toys.ForgetsItsOptimizer, r"resumed at step 3 of 14, .* \(first at step 3"),
        ("ranks", toys.Unsynchronised, "students differ at step 6: the update is not synchronised"),
    ],
)
def test_a_broken_host_fails_the_check_of_its_rule(check, make_host, message):
    with pytest.raises(ContractError, match=message):
        CHECKS[check](make_host)


def compare_in(rank: int, folder: str) -> None:
    """Several broken hosts in the same two processes, which take long to start."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    seen = [ranks.compare(host, Path(folder) / host.__name__) for host in BROKEN_IN_TWO]
    Path(folder, f"seen.{rank}").write_text("\n".join(seen))
    distributed.destroy_process_group()


def test_fake_scores_that_drift_apart_and_ranks_with_the_same_data_are_found(tmp_path):
    ranks.start_ranks(compare_in, (str(tmp_path),))
    for rank in range(2):
        drift, same_data = (tmp_path / f"seen.{rank}").read_text().splitlines()
        assert drift == "the ranks' fake scores differ at step 7: the update is not synchronised"
        assert same_data.startswith("all ranks have the same losses: give each data of its own")


def test_a_fake_score_that_stands_still_is_found_by_the_session_itself():
    with pytest.raises(ValueError, match=r"node_0001\.safetensors equals the teacher"):
        CHECKS["recording"](toys.FrozenFake)


def loose(self: InPlace, node: int, tensors: dict[str, Tensor]) -> InstallReport:
    names = self.reference.tensors
    known = {name: tensors.get(name, names[name]) for name in names}
    fitting = {k: v if v.shape == names[k].shape else names[k] for k, v in known.items()}
    return INSTALL(self, node, fitting)


def with_surplus(self: InPlace, node: int, tensors: dict[str, Tensor]) -> InstallReport:
    """Refuses what misses or does not fit, drops what it does not know."""
    names = self.reference.tensors
    known = {name: value for name, value in tensors.items() if name in names}
    return INSTALL(self, node, known)


def copies_as_it_checks(self: InPlace, node: int, tensors: dict[str, Tensor]) -> InstallReport:
    """Refuses at the first tensor that does not fit, those before it are in."""
    own = dict(self.teacher.named_parameters())
    with torch.no_grad():
        for name, value in tensors.items():
            if name not in own or own[name].shape != value.shape:
                break
            own[name].copy_(value)
    return INSTALL(self, node, tensors)


@pytest.mark.parametrize(
    ("install", "message"),
    [
        (loose, "a node with a missing tensor was installed"),
        (with_surplus, "a node with a surplus tensor was installed"),
        (copies_as_it_checks, "a refused node with a missing tensor changed the real score"),
    ],
)
def test_an_installation_that_loads_loosely_fails_the_check_strict(monkeypatch, install, message):
    monkeypatch.setattr(InPlace, "install", install)
    with pytest.raises(ContractError, match=message):
        CHECKS["strict"](toys.ToyContract)


def test_the_error_names_the_check_and_skipped_checks_do_not_run():
    with pytest.raises(ContractError, match="^off: two hosts"):
        check_adapter(toys.Unseeded)
    with pytest.raises(ContractError, match=r"^recording: .*equals the teacher"):
        check_adapter(toys.FrozenFake, skip=["off"])
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
