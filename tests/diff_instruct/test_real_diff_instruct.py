"""Diff-Instruct's own script at 0c37389, patched, on a tiny EDM network."""

from pathlib import Path

import pytest

from tests.diff_instruct import runs
from tests.diff_instruct.hosting import Host, launch
from tests.hosts.launching import notes, succeed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_off_is_identical_on_walks_the_path_and_a_killed_run_goes_on_as_if_not(
    real: Host, tmp_path: Path, num_processes: int
) -> None:
    runs.run_and_check(real, tmp_path, num_processes)


def test_a_data_loader_with_a_worker_process_changes_nothing(real: Host, tmp_path: Path) -> None:
    """The other runs read their data in the process itself, to save time."""
    outs = [tmp_path / "with", tmp_path / "without"]
    jobs = [
        real.job("plain", out, real.arguments(out, 4), workers=workers)
        for out, workers in zip(outs, (True, False), strict=True)
    ]
    succeed(launch(jobs, tmp_path / "launch"), tmp_path / "launch")
    assert notes(outs[0]) == notes(outs[1])
