"""Trained students in the formats of others: written, loaded again, compared, described."""

from disback_plugin.lab.export.run import FORMS, export
