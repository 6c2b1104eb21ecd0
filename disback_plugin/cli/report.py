"""`disback report`: the report of one or several experiment folders."""

import argparse
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.cli.run import report

EXAMPLES = """  disback report runs/digits-ddpm
  disback report runs/a runs/b --out comparison
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "write report.html, figures and summary.json from finished or running experiments"
    parser = add_command(commands, "report", summary, EXAMPLES)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="experiment folder")
    parser.add_argument("--out", type=Path, help="where to write (default: the first RUN)")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Build the report and print its table."""
    report(args.runs, args.out or args.runs[0])
    return 0
