"""The real SwiftBrush where a checkout is at hand, else the small host of our own."""

from pathlib import Path

import pytest

from tests.hosts.swiftbrush_inputs import make_inputs
from tests.swiftbrush import hosting


@pytest.fixture(scope="session")
def upstream() -> Path:
    """A SwiftBrush checkout."""
    source = hosting.find_checkout()
    if source is None:
        pytest.skip("no SwiftBrush checkout (third_party/SwiftBrush or DISBACK_UPSTREAMS)")
    return source


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion folder and prompts."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder, hosting.NUM_PROMPTS)
    return folder


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> hosting.Host:
    """SwiftBrush itself, or the small host, patched the same way."""
    source = hosting.find_checkout() or hosting.SMALL_HOST
    return hosting.Host.of(source, tmp_path_factory.mktemp("host"), inputs)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> hosting.Host:
    """The small host."""
    return hosting.Host.of(hosting.SMALL_HOST, tmp_path_factory.mktemp("small"), inputs)
