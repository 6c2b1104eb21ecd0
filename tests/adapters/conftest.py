"""The runs of a case, launched once and read by all its tests."""

import functools
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.cases import Case
from tests.adapters.launching import succeed
from tests.adapters.runs import Host, Runs

HOSTS = {"dmd2": "DMD2", "diff_instruct": "DiffInstruct", "swiftbrush": "SwiftBrush"}
HOSTS |= {"fastgen": "FastGen", "modelopt": "ModelOpt"}


def host_class(name: str) -> type[Host]:
    """Imported when it is asked for: hosts need different libraries."""
    return getattr(import_module(f"tests.adapters.{name}.host"), HOSTS[name])


@pytest.fixture(scope="session")
def make_host(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Host]:
    """A host by name, the real one or the small one, prepared once."""

    @functools.cache
    def make(name: str, real: bool) -> Host:
        kind = host_class(name)
        return kind(kind.tree(real), tmp_path_factory.mktemp(name))

    return make


@pytest.fixture(scope="session")
def launched(
    make_host: Callable[[str, bool], Host], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Case], Runs]:
    """The runs of a case, launched at its first test."""

    @functools.cache
    def launch(case: Case) -> Runs:
        host, folder = make_host(case.host, case.real), tmp_path_factory.mktemp(case.name)
        succeed(host.launch(case, host.plan(case), folder), folder / "launch")
        return Runs(case, host, folder)

    return launch


@pytest.fixture
def runs(request: pytest.FixtureRequest, launched: Callable[[Case], Runs]) -> Runs:
    """The finished runs of the case in the parameter."""
    return launched(request.param)


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> Path:
    """A checkout of the host in whose folder the test lies."""
    return host_class(request.path.parent.name).checkout()


@pytest.fixture
def small_copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the small host in whose folder the test lies."""
    host: Any = host_class(request.path.parent.name)
    return host.copy(host.small, tmp_path / "small")


@pytest.fixture(autouse=True)
def _log_level_kept() -> Iterator[None]:
    """The overlay makes DisBack's log visible, in a process of its own."""
    logger = logging.getLogger("disback")
    level = logger.level
    yield
    logger.setLevel(level)
