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
    "modelopt": "modelopt.contract.ModelOptContract",
    "modelopt-gan": "modelopt.contract.ModelOptGANContract",
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("adapter", CONTRACTS)
def test_contract(adapter: str, check: str) -> None:
    if check == "ranks" and adapter in ("dmd2-edm", "modelopt-gan"):
        pytest.skip("the code of the other one of its host: processes are slow to start")
    if adapter.startswith("modelopt"):
        pytest.importorskip("modelopt", reason="the host needs modelopt, which is not installed")
    torch.set_num_threads(1)
    module, _, name = CONTRACTS[adapter].rpartition(".")
    CHECKS[check](getattr(import_module(f"tests.adapters.{module}"), name))
