"""Reads run folders and says what came out: summary.json, figures and one HTML page."""

from disback_plugin.lab.report.build import build_report
from disback_plugin.lab.report.tables import format_table
from disback_plugin.lab.report.verdict import verdict
