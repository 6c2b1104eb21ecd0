"""`disback eval` from the command line: one process, two, and what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from disback_plugin.cli import main
from disback_plugin.lab.results.evaluations import read_evaluation
from tests.lab.evaluation.conftest import pixels, save_folder
from tests.ranks import on_ranks

BOTH = ("--protocol", "edm", "--features", "pixels", "--smoke", "--device", "cpu")


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    np.savez(tmp_path / "real.npz", arr_0=pixels(40, seed=2))
    file = tmp_path / "real.safetensors"
    assert main(["eval", str(tmp_path / "real.npz"), *BOTH, "--make_reference", str(file)]) == 0
    return file


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "samples", pixels(30, seed=1, shift=20))


def test_the_result_lies_beside_the_samples_and_is_printed(
    samples: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(samples), *BOTH, "--reference", str(reference)]) == 0
    file = samples.with_name("samples.eval-edm-pixels.json")
    found = read_evaluation(file)
    (name,) = found.numbers
    assert name == "Frechet distance (pixels)"
    printed = capsys.readouterr().out
    assert f"{found.numbers[name]:.4g}" in printed
    assert "SMOKE" in printed
    assert "FID  " not in printed
    left = sorted(item.name for item in samples.parent.iterdir())
    ours = ["samples", "samples.eval-edm-pixels.json"]
    assert left == ["real.npz", "real.safetensors", *ours]  # no features stay behind


@pytest.mark.slow
def test_two_processes_give_the_same_result(samples: Path, reference: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone.json", tmp_path / "together.json"
    words = ["eval", str(samples), *BOTH, "--reference", str(reference), "--out"]
    assert main([*words, str(alone)]) == 0
    on_ranks(main, [*words, str(together)])
    assert read_evaluation(together) == read_evaluation(alone)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--protocol", "emd"], "did you mean 'edm'"),
        (["--protocol", "edm", "--numbers", "fud"], "did you mean 'fid'"),
        (["--protocol", "edm", "--cell", "edm/ffhq"], "did you mean 'edm/ffhq64'"),
        (["--protocol", "edm", "--features", "pixels"], "give --reference FILE"),
        ([*BOTH, "--reference", "x.npz", "--every"], "--every and --thresholds are for a run"),
        ([*BOTH, "--reference", "x.npz"], "x.npz does not exist"),
    ],
)
def test_what_is_wrong_is_told(
    samples: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(samples), *words]) == 2
    assert complaint in capsys.readouterr().err
