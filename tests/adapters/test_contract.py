"""Every adapter keeps the contract, on networks in its host's places."""

from importlib import import_module

import pytest
import torch

from disback_plugin.testing import CHECKS

CONTRACTS = {
    "dmd2-sd": "dmd2.contract.DMD2Contract",
    "dmd2-edm": "dmd2.contract.DMD2EDMContract",
    "diff_instruct": "diff_instruct.contract.DiffInstructContract",
    "swiftbrush": "swiftbrush.contract.SwiftBrushContract",
    "fastgen": "fastgen.contract.FastGenContract",
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("adapter", CONTRACTS)
def test_contract(adapter: str, check: str) -> None:
    if (adapter, check) == ("dmd2-edm", "ranks"):
        pytest.skip("the same code as dmd2-sd: processes are slow to start")
    torch.set_num_threads(1)
    module, _, name = CONTRACTS[adapter].rpartition(".")
    CHECKS[check](getattr(import_module(f"tests.adapters.{module}"), name))
