"""`disback tables`: the paper's tables, with what was measured here."""

import argparse
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.errors import ConfigError

EXAMPLES = """  disback tables --table 1
  disback tables --results results/ --out tables/
  disback tables --results smoke/ --smoke
"""
DETAILS = """Cells are filled by results of `disback eval ... --cell NAME` in --results or below; an
empty cell says which command fills it. --smoke shows smoke tests' results, and no others; without
it they are left out. With --out, tables.md and tables.html are written there.

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "the paper's tables beside what was measured here and what others reach today"
    parser = add_command(commands, "tables", summary, EXAMPLES, DETAILS)
    parser.add_argument(
        "--table", choices=["1", "2", "3", "4", "speed"], help="one of them (default: all)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="of disback eval (default: the paper's numbers only)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write (default: nowhere)"
    )
    parser.add_argument("--smoke", action="store_true", help="of smoke tests, marked as such")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables; write them where that is asked."""
    from disback_plugin.files import write_text
    from disback_plugin.lab.tables.measured import fill_cells
    from disback_plugin.lab.tables.paper import TABLES
    from disback_plugin.lab.tables.rendering import markdown, page

    if args.results is not None and not args.results.is_dir():
        raise ConfigError(f"--results {args.results} is no folder")
    tables = [TABLES[args.table]] if args.table else [*TABLES.values()]
    filled = fill_cells(args.results, args.smoke)
    text = markdown(tables, filled, args.smoke)
    print(text, end="")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_text(args.out / "tables.md", text)
        write_text(args.out / "tables.html", page(tables, filled, args.smoke))
        print(f"\nwritten: {args.out / 'tables.md'}, {args.out / 'tables.html'}")
    return 0
