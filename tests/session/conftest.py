"""The toy host, and a session of the usual settings in its loop."""

import pytest

from tests.session.common import attach, settings
from tests.toy import ToyHost


@pytest.fixture
def host():
    return ToyHost()


@pytest.fixture
def disback(host, tmp_path):
    return attach(host, settings(tmp_path))


@pytest.fixture
def recorded(host, disback):
    """The session after its recording; the path is complete."""
    host.run(disback, range(6))
    return disback
