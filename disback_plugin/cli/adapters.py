"""`disback adapters`: which methods DisBack can be attached to here."""

import argparse
from typing import Any

from disback_plugin.cli.arguments import add_command

DETAILS = """Each with its name, where it comes from, its host, and where it finds the roles.
Your own: docs/writing-an-adapter.md

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary, examples = "list the adapters that can be used", "  disback adapters\n"
    parser = add_command(commands, "adapters", summary, examples, DETAILS)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print a block per adapter."""
    from disback_plugin.adapter import get_adapter, list_adapters, origin

    for name in list_adapters():
        adapter = get_adapter(name)
        print(f"{name}  ({origin(name)})  {adapter.host}".rstrip())
        places = {} if adapter.found_at is None else adapter.found_at._asdict()
        for role, place in places.items():
            print(f"    {role:<11} {place}")
    return 0
