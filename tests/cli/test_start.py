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

HEAVY = ("torch", "diffusers", "transformers", "matplotlib", "accelerate", "peft", "datasets")
SCRIPT = """
import sys
from disback_plugin.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(code, *(name for name in {heavy!r} if name in sys.modules))
"""


def start(*words: str) -> tuple[int, set[str]]:
    """The exit code of `disback WORDS`, and which heavy packages it imported."""
    command = [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, *imported = done.stdout.splitlines()[-1].split()
    return int(code), set(imported)


@pytest.mark.parametrize("words", ["--help", "--version", "run --help", "dmd2 apply --help"])
def test_help_imports_nothing_heavy(words: str) -> None:
    assert start(*words.split()) == (0, set())


def test_the_help_starts_without_what_takes_longest() -> None:
    make = "import sys; from disback_plugin.cli.main import make_parser; make_parser()"
    command = [sys.executable, "-c", f"{make}; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"pydantic", "importlib.metadata", "numpy"} & set(done.stdout.split())


def test_the_codecs_of_the_command_line_are_those_of_the_settings() -> None:
    assert get_args(Codec) == CODECS


@pytest.mark.parametrize("words", ["", "rnu", "run", "run x.yaml --no-such", "data lmdb a"])
def test_a_usage_error_imports_nothing_heavy(words: str) -> None:
    assert start(*words.split()) == (2, set())


@pytest.mark.parametrize("action", ["apply", "status", "diff", "revert"])
@pytest.mark.parametrize("host", ["dmd2", "diff-instruct", "swiftbrush"])
def test_patching_imports_nothing_heavy(host: str, action: str, tmp_path: Path) -> None:
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


def test_path_show_reads_the_manifest_without_torch(path: Path) -> None:
    assert start("path", "show", str(path)) == (0, set())


def test_path_verify_reads_tensors_with_torch_alone(path: Path) -> None:
    assert start("path", "verify", str(path)) == (0, {"torch"})


@pytest.mark.parametrize(
    ("words", "may_import"),
    [
        (["run", "none.yaml"], {"torch", "accelerate"}),
        (["compare", "none.yaml"], {"torch", "accelerate"}),
        (["report", "none"], set()),
        (["eval", "none", "--protocol", "edm"], {"torch", "accelerate"}),
        (["tables", "--results", "none"], set()),
        (["inspect", "edm-pkl:none"], {"torch"}),
        (["convert", "edm-pkl", "none.pkl", "out.safetensors"], {"torch"}),
        (["sample", "edm-pkl:none", "--out", "out"], {"torch", "accelerate"}),
        (["export", "edm-pkl:none", "--as", "bin", "--out", "out"], {"torch", "accelerate"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_imports_only_what_it_uses(words: list[str], may_import: set[str]) -> None:
    code, imported = start(*words)
    assert code == 2  # nothing is there
    assert imported <= may_import


def test_a_run_needs_none_of_the_pretrained_libraries(tmp_path: Path) -> None:
    experiment = Path(__file__).parents[2] / "experiments" / "gaussians" / "near.yaml"
    settings = (
        *("teacher.training.num_steps=2", "distill.num_steps=12", "evaluation.num_samples=20"),
        *("evaluation.every=12", "checkpoint.every=12", "logging.progress=false"),
    )
    out = str(tmp_path / "out")
    code, imported = start("run", str(experiment), *settings, "--arm", "fixed", "--out", out)
    assert code == 0
    assert imported == {"torch", "accelerate"}
