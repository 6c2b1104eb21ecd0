"""The real Diff-Instruct where a checkout is at hand; the small host of our own everywhere."""

import importlib.util
from pathlib import Path

import pytest

from tests.diff_instruct import hosting

NEEDED = ("click", "psutil", "scipy", "PIL", "requests", "libcst")


@pytest.fixture(scope="session")
def upstream() -> Path:
    """A Diff-Instruct checkout whose requirements are installed."""
    source = hosting.find_checkout()
    if source is None:
        pytest.skip("no Diff-Instruct (third_party/diff_instruct or DISBACK_UPSTREAMS)")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"it needs {', '.join(missing)}: pip install 'disback_plugin[diff-instruct]'")
    return source


@pytest.fixture(scope="session")
def real(upstream: Path, tmp_path_factory: pytest.TempPathFactory) -> hosting.Host:
    """Diff-Instruct itself: repaired only, and with `--disback`; tiny inputs."""
    return hosting.Host.of(upstream, tmp_path_factory.mktemp("diff-instruct"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> hosting.Host:
    """The small host, patched the same way."""
    return hosting.Host.of(hosting.SMALL_HOST, tmp_path_factory.mktemp("small"))
