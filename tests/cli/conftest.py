"""A tiny experiment as a config file; what a command imports."""

from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.faults.zygote import Zygote

TINY = {
    "name": "tiny",
    "problem": {"kind": "gaussians", "num_components": 3, "std": 0.1},
    "teacher": {
        "denoiser": {"kind": "edm", "sigma_data": 0.6},
        "network": {"kind": "residual-mlp", "hidden": 16, "num_blocks": 1},
        "training": {"num_steps": 20, "batch_size": 32},
    },
    "student": {"kind": "generator", "hidden": 16, "offset": [2.0, 2.0]},
    "distill": {"num_steps": 24, "batch_size": 32},
    "disback": {
        "record": {"num_steps": 6, "at": [2, 4, 6]},
        "schedule": {"name": "fixed", "interval": 3},
    },
    "evaluation": {
        "every": 8,
        "num_samples": 64,
        "primary": "sliced_wasserstein",
        "thresholds": [1.0, 0.01],
    },
    "checkpoint": {"every": 5},
    "logging": {"every": 4, "progress": False},
    "device": "cpu",
}


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    return file


Start = Callable[..., tuple[int, set[str]]]


def _starting(*warm: str) -> Iterator[Start]:
    zygote = Zygote()

    def start(*words: str) -> tuple[int, set[str]]:
        code, imported = zygote.run("tests.cli.starting:start", *words, warm=warm)
        return code, set(imported)

    yield start
    zygote.close()


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """The exit code of `disback WORDS`, and which heavy packages it imported."""
    yield from _starting()


@pytest.fixture(scope="session")
def start_with_torch() -> Iterator[Start]:
    """The same for a command that needs torch: it is there, as it takes longest."""
    yield from _starting("torch")
