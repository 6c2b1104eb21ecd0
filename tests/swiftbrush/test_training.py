"""SwiftBrush's own script, or the small host's, patched, on tiny networks."""

import os
from pathlib import Path

import pytest

from tests.swiftbrush import runs
from tests.swiftbrush.hosting import Host, find_checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ALL = os.environ.get("DISBACK_SWIFTBRUSH") == "all"
more = pytest.mark.skipif(not ALL, reason="DISBACK_SWIFTBRUSH=all")
real = pytest.mark.skipif(
    not ALL and find_checkout() is None, reason="no SwiftBrush checkout, or DISBACK_SWIFTBRUSH=all"
)

ACCUMULATED = "--gradient_accumulation_steps 2 --use_ema --mixed_precision bf16"
CASES = [
    pytest.param(ACCUMULATED, 1, id="accumulated-ema-bf16"),
    pytest.param("", 2, id="two-processes", marks=real),
    pytest.param("", 1, id="plain", marks=more),
    pytest.param("--gradient_checkpointing --set_grads_to_none", 1, id="checkpointing", marks=more),
    pytest.param(ACCUMULATED, 2, id="two-processes-accumulated-ema-bf16", marks=more),
]


@pytest.mark.parametrize(("options", "num_processes"), CASES)
def test_off_is_identical_on_walks_the_path_and_a_killed_run_goes_on_as_if_not(
    host: Host, tmp_path: Path, options: str, num_processes: int
) -> None:
    runs.run_and_check(host, options.split(), tmp_path, num_processes)
