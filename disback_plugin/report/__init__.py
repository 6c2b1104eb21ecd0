"""Reads run folders and says what came out: summary.json, figures and one HTML page."""

from disback_plugin.report.build import build_report
from disback_plugin.report.runs import Run, read_runs
from disback_plugin.report.summary import summarise
from disback_plugin.report.table import format_table, print_table
from disback_plugin.report.verdict import verdict

__all__ = [
    "Run",
    "build_report",
    "format_table",
    "print_table",
    "read_runs",
    "summarise",
    "verdict",
]
