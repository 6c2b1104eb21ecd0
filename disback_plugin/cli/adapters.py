"""`disback adapters`: which methods DisBack can be attached to here, and what was run of each."""

import argparse
from typing import Any

from disback_plugin.cli.arguments import add_command

DETAILS = """Each with its name, where it comes from, its host, and where it finds the roles; of a
host that the tests run: the version found here, the ones that are let in, and what was run (on
real upstream code with tiny networks).

Your own: docs/writing-an-adapter.md

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "list the adapters that can be used"
    examples = "  disback adapters\n  disback adapters --markdown\n"
    parser = add_command(commands, "adapters", summary, examples, DETAILS)
    parser.add_argument("--markdown", action="store_true", help="README's support table instead")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print a block per adapter, or the table."""
    from disback_plugin.adapter import get_adapter, list_adapters, origin
    from disback_plugin.adapters.support import markdown, support_of

    if args.markdown:
        print(markdown(), end="")
        return 0
    for name in list_adapters():
        adapter = get_adapter(name)
        print(f"{name}  ({origin(name)})  {adapter.host}".rstrip())
        lines = {} if adapter.found_at is None else adapter.found_at._asdict()
        if host := support_of(name):
            lines |= {"found": host.found(), "supported": host.known, "run": host.ran()}
        for what, where in lines.items():
            print(f"    {what:<11} {where}")
    return 0
