"""FastGen's adapter and callback keep the contract, on the small host."""

import pytest

from disback_plugin.testing import CHECKS
from tests.fastgen.contract import FastGenContract


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_fastgens_adapter_keeps_the_contract(check: str) -> None:
    CHECKS[check](FastGenContract)
