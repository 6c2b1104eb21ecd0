"""The real DMD2 where a checkout is at hand; the small host of our own everywhere."""

import importlib.util
from pathlib import Path

import pytest

from tests.dmd2 import hosting
from tests.hosts.dmd2_inputs import make_inputs

NEEDED = ("accelerate", "diffusers", "transformers", "peft", "wandb", "lmdb", "imageio", "libcst")


@pytest.fixture(scope="session")
def upstream() -> Path:
    """A DMD2 checkout whose requirements are installed."""
    source = hosting.find_checkout()
    if source is None:
        pytest.skip("no DMD2 checkout (third_party/DMD2 or DISBACK_UPSTREAMS)")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"DMD2 needs {', '.join(missing)}: pip install 'disback_plugin[dmd2]'")
    return source


@pytest.fixture(scope="session")
def real(upstream: Path, tmp_path_factory: pytest.TempPathFactory) -> hosting.Host:
    """DMD2 itself: repaired only, and with `--disback`; tiny inputs."""
    folder = tmp_path_factory.mktemp("dmd2")
    inputs = folder / "inputs"
    make_inputs(inputs, hosting.NUM_ROWS, upstream)
    return hosting.Host.of(upstream, folder, inputs)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> hosting.Host:
    """The small host, patched the same way."""
    folder = tmp_path_factory.mktemp("small")
    return hosting.Host.of(hosting.SMALL_HOST, folder, folder)
