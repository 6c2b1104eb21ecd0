"""`disback report`: the report of one or several experiment folders."""

import argparse
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.cli.run import report

EXAMPLES = """  disback report runs/digits-ddpm
  disback report runs/a runs/b --out comparison --csv comparison/tables
"""
DETAILS = """Several RUNs of one experiment, without a seed twice, are counted together; others
stand side by side on equal axes.

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "write report.html, figures and summary.json from finished or running experiments"
    parser = add_command(commands, "report", summary, EXAMPLES, DETAILS)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="experiment folder")
    parser.add_argument("--out", type=Path, help="where to write (default: the first RUN)")
    parser.add_argument(
        "--csv", type=Path, metavar="FOLDER", help="all numbers as tables, too (default: none)"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Build the report and print its table."""
    report(args.runs, args.out or args.runs[0], args.csv)
    return 0
