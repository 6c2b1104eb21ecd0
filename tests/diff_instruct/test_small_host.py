"""The small host of our own, patched like Diff-Instruct: what holds there holds without it."""

from pathlib import Path

import pytest

from tests.diff_instruct import runs
from tests.diff_instruct.hosting import Host

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("num_processes", [1, 2])
def test_off_is_identical_on_walks_the_path_and_a_killed_run_goes_on_as_if_not(
    small: Host, tmp_path: Path, num_processes: int
) -> None:
    runs.run_and_check(small, tmp_path, num_processes)
