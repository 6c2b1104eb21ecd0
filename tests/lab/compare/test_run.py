"""A folder holds one comparison: as many seeds for every arm."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.compare import compare
from disback_plugin.lab.compare import run as compare_run
from tests.lab.trainer.conftest import tiny_config


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


DAMAGE = {
    "cut at a line": lambda text: text.splitlines(keepends=True)[0],
    "cut": lambda text: text[:-9],
    "flipped": lambda text: text.replace('"value": [', '"value": [1'),
    "of another arm": lambda text: text.replace('"arm": "fixed"', '"arm": "warm"'),
    "empty": lambda text: "",
    "no text": lambda text: "\udcff",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_curves_that_are_not_what_was_written_are_refused(how: str, bench: Path) -> None:
    file = bench / "curves" / "fixed-lr0.001-seeds2.jsonl"
    whole = file.read_text()
    file.write_text(DAMAGE[how](whole), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RunError, match=r"fixed-lr0.001-seeds2.jsonl .*; delete it and run the com"):
        compare(tiny_config(), bench, ["fixed"], [], 2)
    file.write_text(whole)
    (renamed := file.with_name("warm-lr0.001-seeds2.jsonl")).write_text(whole)
    with pytest.raises(RunError, match=r"warm-lr0.001-seeds2.jsonl holds other curves than"):
        compare(tiny_config(), bench, ["fixed"], [], 2)
    renamed.unlink()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    compare(tiny_config(), out, ["fixed"], [], 2)
    return out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.num_accumulation_steps=2", "whole batches"),
        ("mixed_precision=bf16", "in float32: set mixed_precision=no"),
        ("teacher.network={kind: song-unet, dropout: 0.1}", "without dropout: set distill.dropout"),
    ],
)
def test_what_it_would_leave_out_is_refused(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(tiny_config(override), tmp_path / "out", ["fixed"], [], 1)
    assert not (tmp_path / "out").exists()


def test_a_gpu_is_refused_before_the_teacher_is_trained_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(compare_run, "make_accelerator", lambda config: gpu)
    with pytest.raises(ConfigError, match="compare runs on the CPU: set device=cpu"):
        compare(tiny_config(), tmp_path / "out", ["fixed"], [], 1)
    assert not (tmp_path / "out").exists()
