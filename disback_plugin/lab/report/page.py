"""The report as one self-contained HTML page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from disback_plugin.lab.report import formatting
from disback_plugin.lab.report.tables import difference_rows, final_rows


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG on disk with what it shows; `main` pictures are open, the others folded away.

    `width` in CSS pixels is what its fonts are made for; a screen that is narrower scrolls a `wide`
    picture and shrinks any other.
    """

    file: Path
    section: str
    caption: str
    width: int
    main: bool = True

    @property
    def wide(self) -> bool:
        return self.width > 700

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.file.read_bytes()).decode("ascii")


def render_page(
    summary: Mapping[str, Any],
    pictures: Sequence[Picture],
    paths: Mapping[str, Sequence[Sequence[str]]],
    environment: Mapping[str, Any],
    configs: Sequence[tuple[str, str]],
) -> str:
    """HTML with inline style and pictures: no script, no network.

    `paths`: rows of the node table per run; `environment`: what experiment.json says; `configs`:
    folder name and resolved YAML of each experiment folder.
    """
    jinja = Environment(
        loader=PackageLoader("disback_plugin.lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(
        number=formatting.number,
        mean_std=formatting.mean_std,
        ratio=formatting.ratio,
        reached=formatting.reached,
        reach_seeds=formatting.reach_seeds,
    )
    return jinja.get_template("page.html").render(
        summary=summary,
        pictures=pictures,
        paths=paths,
        environment=flat(environment),
        configs=configs,
        finals=final_rows(summary),
        differences=difference_rows(summary),
        seconds_note=formatting.SECONDS_NOTE,
        intervals=formatting.INTERVALS,
    )


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level: {"versions": {"torch": 2}} -> {"versions torch": "2"}."""
    entries: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            entries.update(flat(value, f"{prefix}{key} "))
        elif value is not None:
            entries[f"{prefix}{key}".replace("_", " ")] = str(value)
    return entries
