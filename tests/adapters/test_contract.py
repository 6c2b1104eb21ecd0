"""Every adapter keeps the contract, on networks in its host's places."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from disback_plugin.testing import CHECKS, check_adapter
from disback_plugin.testing.ranks import start_ranks
from tests.session.fully_sharded import join, leave

CONTRACTS = {
    "dmd2-sd": "dmd2.contract.DMD2Contract",
    "dmd2-edm": "dmd2.contract.DMD2EDMContract",
    "diff_instruct": "diff_instruct.contract.DiffInstructContract",
    "swiftbrush": "swiftbrush.contract.SwiftBrushContract",
    "fastgen": "fastgen.contract.FastGenContract",
    "modelopt": "modelopt.contract.ModelOptContract",
    "modelopt-gan": "modelopt.contract.ModelOptGANContract",
    "modelopt-bf16": "modelopt.contract.ModelOptBF16Contract",
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("adapter", CONTRACTS)
def test_contract(adapter: str, check: str) -> None:
    if check == "ranks" and adapter in ("dmd2-edm", "modelopt-gan", "modelopt-bf16"):
        pytest.skip("the code of the other one of its host: processes are slow to start")
    if adapter.startswith("modelopt"):
        pytest.importorskip("modelopt", reason="the host needs modelopt, which is not installed")
    torch.set_num_threads(1)
    module, _, name = CONTRACTS[adapter].rpartition(".")
    CHECKS[check](getattr(import_module(f"tests.adapters.{module}"), name))


def in_a_group(rank: int, folder: Path) -> None:
    from tests.adapters.modelopt.contract import ModelOptShardedContract

    join(rank, folder)
    assert check_adapter(ModelOptShardedContract) == list(CHECKS)
    leave()


@pytest.mark.thorough
def test_model_optimizer_keeps_it_under_fully_shard_in_two_processes(tmp_path: Path) -> None:
    """All checks, "ranks" among them; its fake score is made without memory."""
    pytest.importorskip("modelopt", reason="the host needs modelopt, which is not installed")
    start_ranks(in_a_group, (tmp_path,))
