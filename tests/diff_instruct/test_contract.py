"""The adapter under the contract that every adapter is held to."""

import pytest
from torch import Tensor

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.diff_instruct.adapter import DiffInstructHost
from disback_plugin.testing import CHECKS, check_adapter
from tests.testing.toy_contract import ToyContract


class DiffInstructContract(ToyContract):
    """The toy loop under Diff-Instruct's names: its teacher module itself is the real score."""

    def attach(self, config: DisBackConfig) -> DisBack:
        host = DiffInstructHost(net=self.teacher, Sg=self.fake, G=self.own)
        return DisBack.attach(host, adapter="diff-instruct", config=config)

    def real(self, disback: DisBack | None, x: Tensor) -> Tensor:
        return self.teacher(x)


@pytest.mark.slow
def test_the_adapter_keeps_the_contract() -> None:
    assert check_adapter(DiffInstructContract) == list(CHECKS)
