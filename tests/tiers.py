"""Two tiers of tests: `make test` has a sample of each table, `make test-slow` all of it."""

from collections.abc import Sequence
from typing import Any

import pytest


def sample_of(*usual: Any, rest: Sequence[Any]) -> list[Any]:
    """Parameters of a test: those of every run, and the rest, which is `thorough`."""
    return [*usual, *(pytest.param(value, marks=pytest.mark.thorough) for value in rest)]
