"""The paper's numbers as printed there, cells filled by results, empty ones with their command."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from disback_plugin.cli import main
from disback_plugin.cli.main import make_parser
from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.results.evaluations import Evaluation, write_curves_of, write_evaluation
from disback_plugin.lab.tables.cells import CELLS, check_cell
from disback_plugin.lab.tables.measured import fill_cells
from disback_plugin.lab.tables.paper import TABLES
from disback_plugin.lab.tables.rendering import cells_of, markdown, page

RESULT = Evaluation(
    protocol="edm",
    numbers={"FID": 11.024},
    ranges={"all": {"FID": 11.024}},
    summary={},
    num_images=50_000,
    smoke=False,
    pixels="unresized",
    samples={"name": "samples"},
    reference={"file": "ffhq-64x64.npz"},
    network={"name": "inception-2015-12-05"},
    cell="edm/ffhq64",
)
SPEED = {
    "metric": "FID",
    "smoke": False,
    "cell": "speed/ffhq64",
    "thresholds": [
        {"threshold": 20.0, "speedup": {"steps": 1.5, "passes": 1.4}, "num_seeds": 3},
        {"threshold": 12.0, "speedup": {"steps": 2.25, "passes": 2.0}, "num_seeds": 3},
        {"threshold": 9.0, "speedup": None, "num_seeds": 3},
    ],
}


def text_of(number: str, row: str, source: str, column: str, filled=()) -> str:  # type: ignore[no-untyped-def]
    head, *rows = cells_of(TABLES[number], dict(filled))
    (found,) = [line for line in rows if line[:2] == [row, source]]
    return found[head.index(column)]


@pytest.mark.parametrize(
    ("number", "row", "column", "expected"),
    [
        ("1", "DisBack (EDM)", "FFHQ 64", "10.88"),
        ("1", "DisBack (EDM)", "ImageNet 64", "8.44 [1]"),
        ("1", "DisBack (CD)", "LSUN bedroom", "6.99"),
        ("1", "CD", "AFHQv2 64", "10.75"),
        ("2", "DisBack (EDM)", "ImageNet 64", "8.14 [1]"),
        ("2", "without trajectory (CD)", "LSUN cat", "10.63"),
        ("3", "DisBack", "FID", "18.96"),
        ("3", "SDXL", "user preference", "38.7 %"),
        ("4", "DisBack", "FID", "36.37"),
        ("speed", "DisBack", "CIFAR-10 (DDIM)", "13.09x"),
    ],
)
def test_the_papers_numbers(number: str, row: str, column: str, expected: str) -> None:
    assert text_of(number, row, "paper", column) == expected


def test_what_contradicts_itself_has_a_footnote() -> None:
    notes = " ".join(TABLES["1"].footnotes)
    assert "8.44" in notes
    assert "8.14" in notes
    assert "LSUN Church" in notes


def test_an_unmeasured_cell_is_empty_and_says_which_command_fills_it() -> None:
    assert text_of("1", "DisBack (EDM)", "measured here", "FFHQ 64") == ""
    assert text_of("1", "DisBack (EDM)", "measured here", "AFHQv2 64") == "-"
    text = markdown([TABLES["1"]], {}, smoke=False)
    command = "disback eval SAMPLES --protocol edm --reference ffhq-64x64.npz --cell edm/ffhq64"
    assert f"- DisBack (EDM), FFHQ 64: `{command}`" in text


def test_every_command_parses_and_every_cell_is_in_a_table() -> None:
    shown = {cell for table in TABLES.values() for row in table.rows for cell in row.cells.values()}
    assert shown == CELLS.keys()
    for cell in CELLS.values():
        args = make_parser().parse_args(cell.command.split()[1:])
        assert check_cell(args.cell, args.protocol) == cell.name


def test_a_result_fills_its_cell_in_every_table_that_has_it(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "samples.eval-edm.json", RESULT)
    write_curves_of(tmp_path / "eval-curves.json", SPEED)
    filled = fill_cells(tmp_path, smoke=False)
    for number in ("1", "2"):
        assert text_of(number, "DisBack (EDM)", "measured here", "FFHQ 64", filled) == "11.02"
    speed = text_of("speed", "DisBack, in training steps", "measured here", "FFHQ 64 (EDM)", filled)
    assert speed == "2.25x (to 12, 3 seeds)"
    text = markdown([TABLES["1"]], filled, smoke=False)
    assert "--cell edm/ffhq64`" not in text
    assert "--cell edm/imagenet64`" in text


def test_smoke_and_real_results_are_never_in_one_table(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a.eval-edm.json", RESULT)
    tried = replace(RESULT, smoke=True, numbers={"Frechet distance (pixels)": 5.0})
    write_evaluation(tmp_path / "b.eval-edm.json", tried)
    assert fill_cells(tmp_path, smoke=False)["edm/ffhq64"].text == "11.02"
    assert fill_cells(tmp_path, smoke=True)["edm/ffhq64"].text == "5.00 (SMOKE)"
    assert "SMOKE" in markdown([], {}, smoke=True)
    assert "SMOKE" in page([], {}, smoke=True)


def test_another_distance_is_no_fid(tmp_path: Path) -> None:
    other = replace(RESULT, numbers={"Frechet distance (pixels)": 5.0})
    write_evaluation(tmp_path / "a.eval-edm.json", other)
    assert fill_cells(tmp_path, smoke=False) == {}


def test_two_results_of_one_cell_are_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_evaluation(tmp_path / f"{name}.eval-edm.json", RESULT)
    with pytest.raises(RunError, match="edm/ffhq64 has two results"):
        fill_cells(tmp_path, smoke=False)


def test_a_changed_result_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.eval-edm.json"
    write_evaluation(file, RESULT)
    file.write_text(file.read_text().replace("11.024", "1.024"))
    with pytest.raises(RunError, match="SHA-256 is not the one"):
        fill_cells(tmp_path, smoke=False)


def test_cells_are_of_their_protocol() -> None:
    with pytest.raises(ConfigError, match="by protocol edm, not by adm"):
        check_cell("edm/ffhq64", "adm")
    with pytest.raises(ConfigError, match="did you mean 'edm/ffhq64'"):
        check_cell("edm/ffhq", "edm")


def test_the_command_writes_both_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_evaluation(tmp_path / "a.eval-edm.json", RESULT)
    arguments = ["tables", "--results", str(tmp_path), "--out", str(tmp_path / "t")]
    assert main(arguments) == 0
    text = (tmp_path / "t" / "tables.md").read_text()
    assert text in capsys.readouterr().out
    assert re.search(r"\| DisBack \(EDM\) \| measured here \| 1 \| 11.02 \|", text)
    html = (tmp_path / "t" / "tables.html").read_text()
    assert "<td>11.02</td>" in html
    assert "<script" not in html
    assert html.count("<table>") == 5
