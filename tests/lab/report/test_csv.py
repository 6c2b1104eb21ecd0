"""The numbers of a report as tables for other programs."""

import csv
import re
from urllib.parse import unquote

from disback_plugin.lab.report import build_report
from disback_plugin.lab.report.csv_tables import csv_text
from tests.lab.report.test_page import filled


def read(text):
    return list(csv.DictReader(text.splitlines()))


def test_tables_hold_every_number_exactly(make_experiment, tmp_path) -> None:
    experiment = filled(make_experiment())
    summary = build_report([experiment.out], experiment.out, tmp_path / "deep" / "tables")
    found = {file.stem: read(file.read_text()) for file in (tmp_path / "deep" / "tables").iterdir()}
    assert found.keys() == {
        "finals", "thresholds", "speedups", "differences", "runs", "nodes", "curves",
    }  # fmt: skip
    assert {row["experiment"] for rows in found.values() for row in rows} == {"toy"}
    for row in found["finals"]:
        seeds = summary["arms"][row["arm"]]["finals"][row["metric"]]["seeds"]
        assert float(row["final"]) == seeds[row["seed"]]
    reached = {(r["threshold"], r["arm"], r["seed"]): r["steps"] for r in found["thresholds"]}
    assert reached["5.0", "disback", "0"] == "40"
    assert reached["5.0", "fixed", "0"] == ""  # never
    (speed,) = [r for r in found["speedups"] if (r["threshold"], r["cost"]) == ("10.0", "passes")]
    assert (speed["over"], speed["ratio"], speed["low"], speed["seeds"]) == (
        "fixed",
        "2.0",
        "",
        "2",
    )
    (difference,) = found["differences"]
    assert (difference["difference"], difference["outcome"]) == ("-4.0", "unknown")
    nodes = [(r["arm"], r["seed"], r["node"], r["step"], r["bytes"]) for r in found["nodes"]]
    assert ("disback", "1", "2", "20", "3145728") in nodes
    points = [r for r in found["curves"] if (r["arm"], r["metric"]) == ("warm", "fd_pixel")]
    assert [(r["step"], r["passes"], r["value"]) for r in points] == [
        ("0", "0", "90.0"), ("10", "80", "45.0"),
    ]  # fmt: skip
    (warm,) = [r for r in found["runs"] if r["arm"] == "warm"]
    assert (warm["complete"], warm["counted"], warm["step"]) == ("False", "False", "10")


def test_a_value_that_is_not_finite_is_an_empty_cell(make_experiment, tmp_path) -> None:
    built = make_experiment()
    built.add("fixed", 0, {0: 4.0, 10: float("inf")})
    build_report([built.out], built.out, tmp_path)
    assert [row["value"] for row in read((tmp_path / "curves.csv").read_text())] == ["4.0", ""]


def test_names_come_back_whole_and_none_is_a_formula(make_experiment, tmp_path) -> None:
    built = make_experiment(name='=1+1,"a"', primary="@m")
    built.add("fixed", 0, {0: -4.0, 10: 3.0})
    build_report([built.out], built.out, tmp_path)
    rows = read((tmp_path / "curves.csv").read_text())
    told = [(row["experiment"], row["metric"], row["value"]) for row in rows]
    assert told == [('\'=1+1,"a"', "'@m", "-4.0"), ('\'=1+1,"a"', "'@m", "3.0")]
    assert csv_text([["-x", "+x", "x=1", -1.5, None]]) == "'-x,'+x,x=1,-1.5,\n"


def test_the_page_offers_the_same_tables(make_experiment, tmp_path) -> None:
    experiment = filled(make_experiment())
    build_report([experiment.out], experiment.out, tmp_path)
    page = (experiment.out / "report.html").read_text()
    links = re.findall(
        r'download="toy-(\w+)\.csv" href="data:text/csv;charset=utf-8,([^"]*)"', page
    )
    assert len(links) == 7
    for name, address in links:
        whole = read((tmp_path / f"{name}.csv").read_text())
        assert [{"experiment": "toy", **row} for row in read(unquote(address))] == whole
