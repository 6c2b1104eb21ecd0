"""Diff-Instruct's adapter, on the toy's networks under its names."""

from torch import Tensor

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.diff_instruct import DiffInstructHost
from tests.testing.toy_contract import ToyContract


class DiffInstructContract(ToyContract):
    """Its teacher module itself is the real score."""

    def attach(self, config: DisBackConfig) -> DisBack:
        host = DiffInstructHost(net=self.teacher, Sg=self.fake, G=self.own)
        return DisBack.attach(host, adapter="diff-instruct", config=config)

    def real(self, disback: DisBack | None, x: Tensor) -> Tensor:
        return self.teacher(x)
