"""Tiny networks for the tests that need no run."""

from pathlib import Path

import pytest

from tests.adapters.swiftbrush.host import NUM_PROMPTS
from tests.adapters.swiftbrush.inputs import make_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion folder and prompts."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder, NUM_PROMPTS)
    return folder
