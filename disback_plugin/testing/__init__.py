"""What an adapter must keep, as checks that its author runs: `check_adapter(make_host)`."""

from disback_plugin.testing.checks import CHECKS, check_adapter
from disback_plugin.testing.host import ContractError, ContractHost
