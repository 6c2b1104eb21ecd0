"""A folder holds one comparison: as many seeds for every arm."""

from pathlib import Path

import pytest

from disback_plugin.compare import compare
from disback_plugin.errors import RunError
from tests.trainer.conftest import tiny_config


def test_another_number_of_seeds_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    curves = tmp_path / "curves"
    curves.mkdir()
    (curves / "fixed-lr0.001-seeds4.jsonl").write_text("{}\n")
    message = (
        r"another number of seeds \(fixed-lr0.001-seeds4.jsonl\), which cannot .* with 1: give"
    )
    with pytest.raises(RunError, match=message):
        compare(tiny_config(), tmp_path, ["fixed"], [], 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["curves"]
