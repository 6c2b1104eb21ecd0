"""What a command imports: one that shows or checks a text file starts without torch."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from disback_plugin import DegradationPath
from disback_plugin.cli.path import CODECS
from disback_plugin.config import Codec
from tests.cli.conftest import Start


@pytest.mark.parametrize("words", ["--help", "--version", "run --help", "dmd2 apply --help"])
def test_help_imports_nothing_heavy(start: Start, words: str) -> None:
    assert start(*words.split()) == (0, set())


def test_the_help_starts_without_what_takes_longest() -> None:
    make = "import sys; from disback_plugin.cli.main import make_parser; make_parser()"
    command = [sys.executable, "-c", f"{make}; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"pydantic", "importlib.metadata", "numpy"} & set(done.stdout.split())


def test_the_codecs_of_the_command_line_are_those_of_the_settings() -> None:
    assert get_args(Codec) == CODECS


@pytest.mark.parametrize("words", ["", "rnu", "run", "run x.yaml --no-such", "data lmdb a"])
def test_a_usage_error_imports_nothing_heavy(start: Start, words: str) -> None:
    assert start(*words.split()) == (2, set())


@pytest.mark.parametrize("action", ["apply", "status", "diff", "revert"])
@pytest.mark.parametrize("host", ["dmd2", "diff-instruct", "swiftbrush"])
def test_patching_imports_nothing_heavy(
    start: Start, host: str, action: str, tmp_path: Path
) -> None:
    code, imported = start(host, action, str(tmp_path))
    assert imported == set()
    assert code in (1, 2)  # the folder is no checkout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    teacher = {"w": torch.zeros(3)}
    path = DegradationPath.create(tmp_path / "path", teacher)
    path.append({"w": torch.ones(3)}, step=1)
    path.finish()
    return path.folder


def test_path_show_reads_the_manifest_without_torch(start: Start, path: Path) -> None:
    assert start("path", "show", str(path)) == (0, set())


def test_path_verify_reads_tensors_with_torch_alone(start: Start, path: Path) -> None:
    assert start("path", "verify", str(path)) == (0, {"torch"})


@pytest.mark.parametrize("words", [["report", "none"], ["tables", "--results", "none"]])
def test_a_command_that_draws_imports_nothing_heavy(start: Start, words: list[str]) -> None:
    assert start(*words) == (2, set())  # nothing is there


@pytest.mark.parametrize(
    ("words", "imports"),
    [
        (["run", "none.yaml"], {"accelerate"}),
        (["compare", "none.yaml"], {"accelerate"}),
        (["eval", "none", "--protocol", "edm"], {"accelerate"}),
        (["inspect", "edm-pkl:none"], set()),
        (["convert", "edm-pkl", "none.pkl", "out.safetensors"], set()),
        (["sample", "edm-pkl:none", "--out", "out"], {"accelerate"}),
        (["export", "edm-pkl:none", "--as", "bin", "--out", "out"], {"accelerate"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_uses(
    start_with_torch: Start, words: list[str], imports: set[str]
) -> None:
    code, imported = start_with_torch(*words)
    assert code == 2  # nothing is there
    assert imported <= {"torch", *imports}


def test_a_run_needs_none_of_the_pretrained_libraries(
    start_with_torch: Start, tmp_path: Path
) -> None:
    experiment = Path(__file__).parents[2] / "experiments" / "gaussians" / "near.yaml"
    settings = (
        *("teacher.training.num_steps=2", "distill.num_steps=12", "evaluation.num_samples=20"),
        *("evaluation.every=12", "checkpoint.every=12", "logging.progress=false"),
    )
    out = str(tmp_path / "out")
    code, imported = start_with_torch(
        "run", str(experiment), *settings, "--arm", "fixed", "--out", out
    )
    assert code == 0
    assert imported == {"torch", "accelerate"}
