"""The tables as Markdown and as a page of HTML."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from disback_plugin.lab.tables.cells import CELLS
from disback_plugin.lab.tables.measured import Filled
from disback_plugin.lab.tables.paper import Row, Table

HEADINGS = {"paper": "paper", "ours": "measured here", "today": "published since"}
SMOKE = "SMOKE: the cells measured here are of tiny stand-ins and say nothing about the method."
STYLE = """body { font: 15px/1.45 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } th, td { padding: .3em .8em; text-align: right }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
thead th { border-bottom: 2px solid #444 } tr.ours { background: #e8f1fb }
tr.today { color: #555 } small { color: #555 } code { font-size: 90% }"""


def markdown(tables: Sequence[Table], filled: Mapping[str, Filled], smoke: bool) -> str:
    """All tables, their footnotes, and the commands that fill the empty cells."""
    parts = [f"**{SMOKE}**"] if smoke else []
    for table in tables:
        head, *rows = cells_of(table, filled)
        whole = [head, ["---"] * len(head), *rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in whole)
        parts.append(f"## Table {table.number}: {table.title}\n\n{body}")
        if notes := footnotes(table):
            parts.append("\n".join(f"{mark} {note}" for mark, note in notes))
        if missing := commands(table, filled):
            lines = [f"- {row}, {column}: `{command}`" for row, column, command in missing]
            parts.append("\n".join(["Not measured here yet; what fills a cell:", "", *lines]))
    return "\n\n".join(parts) + "\n"


def page(tables: Sequence[Table], filled: Mapping[str, Filled], smoke: bool) -> str:
    """The same as one HTML page, without scripts or anything from elsewhere."""
    parts = [f"<p><strong>{escape(SMOKE)}</strong></p>"] if smoke else []
    for table in tables:
        head, *rows = cells_of(table, filled)
        kinds = [row.kind for row in table.rows]
        body = "".join(_line(row, "td", kind) for row, kind in zip(rows, kinds, strict=True))
        parts.append(f"<h2>Table {escape(table.number)}: {escape(table.title)}</h2>")
        parts.append(f"<table><thead>{_line(head, 'th')}</thead><tbody>{body}</tbody></table>")
        notes = "<br>".join(f"{mark} {escape(note)}" for mark, note in footnotes(table))
        parts.append(f"<p><small>{notes}</small></p>")
        items = "".join(
            f"<li>{escape(row)}, {escape(column)}: <code>{escape(command)}</code></li>"
            for row, column, command in commands(table, filled)
        )
        parts.append(
            f"<p>Not measured here yet; what fills a cell:</p><ul>{items}</ul>" * bool(items)
        )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>DisBack: the paper\'s '
        f"tables</title><style>{STYLE}</style></head><body><h1>The paper's tables</h1>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def cells_of(table: Table, filled: Mapping[str, Filled]) -> list[list[str]]:
    """Header and rows as text; a cell that was not measured here is empty."""
    rows = [["model", "source", *table.columns]]
    for row in table.rows:
        texts = [_text(row, column, filled) for column in table.columns]
        rows.append([row.name, HEADINGS[row.kind], *texts])
    return rows


def footnotes(table: Table) -> list[tuple[str, str]]:
    """Each with its mark."""
    return [(f"[{number}]", note) for number, note in enumerate(table.footnotes, start=1)]


def commands(table: Table, filled: Mapping[str, Filled]) -> list[tuple[str, str, str]]:
    """Row, column and command of each cell that could be measured and is not."""
    return [(row.name, column, CELLS[cell].command) for row, column, cell in _empty(table, filled)]


def _empty(table: Table, filled: Mapping[str, Filled]) -> Iterator[tuple[Row, str, str]]:
    for row in table.rows:
        for column, cell in row.cells.items():
            if cell not in filled:
                yield row, column, cell


def _text(row: Row, column: str, filled: Mapping[str, Filled]) -> str:
    if column in row.cells:
        found = filled.get(row.cells[column])
        return "" if found is None else found.text
    value = row.values.get(column)
    if value is None:
        return "-"
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"{text} [{row.notes[column]}]" if column in row.notes else text


def _line(cells: Sequence[str], tag: str, kind: str = "") -> str:
    inner = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>"
