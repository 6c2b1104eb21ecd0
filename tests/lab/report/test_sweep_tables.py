"""A comparison in the terminal and in Markdown: bounds, bold cells, what has no interval."""

import re

from disback_plugin.lab.report.sweep_tables import sweep_markdown, sweep_table
from disback_plugin.lab.results.summary import summarise_sweep
from tests.lab.results.sweeps import CURVES, swept


def test_the_markdown_tables_say_the_same() -> None:
    lines = sweep_markdown(summarise_sweep(CURVES, [2.0, 1.0])).splitlines()
    assert lines[:3] == [
        "| student_lr | arm | to 2 | to 1 | final |",
        "|---|---|---|---|---|",
        "| 0.001 | fixed | 180 passes | 270 passes | 0.9 ± 0 |",
    ]
    # to 2: 180 / 90 twice, and 180 / 360; the other seed never arrives: a bound
    assert re.fullmatch(
        r"\| 0\.001 \| adaptive \| ≤ 1\.26x \(0\.17 to 9\.20\) \[2 of 3\] "
        r"\| ≤ 1\.89x \(0\.26 to 13\.80\) \[2 of 3\] \| 1\.73 ± 2\.0 \|",
        lines[3],
    )
    assert lines[4].startswith("| 0.002 | fixed | 180 passes | 180 passes |")
    best = lines[lines.index("Each arm at its best rate, chosen afterwards for each threshold:") :]
    assert best[4] == "| fixed | 180 passes at 0.001 | 180 passes at 0.002 |"
    assert best[5].startswith("| adaptive | ≤ 1.26x")
    assert best[5].endswith(" at 0.001 |")


def test_where_the_whole_interval_is_above_1_the_markdown_is_bold() -> None:
    quick = [swept("disback", 1e-3, seed, [8.0, 1.0, 0.8]) for seed in range(3)]
    text = sweep_markdown(summarise_sweep([*CURVES[:3], *quick], [1.0]))
    assert "| 0.001 | disback | **3.00x (3.00 to 3.00)** | 0.8 ±" in text
    assert "best rate" not in text  # there is one rate only
    few = [*quick[:2], swept("disback", 1e-3, 2, [8.0, 7.0, 0.8][:2])]
    assert "**" not in sweep_markdown(summarise_sweep([*CURVES[:3], *few], [1.0]))  # an upper bound
    never = summarise_sweep([*CURVES[:3], *quick], [0.1])
    assert "| 0.001 | fixed | not reached |" in sweep_markdown(never)
    assert "| 0.001 | disback | none arrived |" in sweep_markdown(never)
    assert "to 0.1        not reached     0/3  same lr none arrived" in sweep_table(never)
    assert "| 270 passes |" not in sweep_markdown(summarise_sweep(quick, [1.0]))


def test_without_the_baseline_and_where_nobody_arrives_no_speed_up_is_told() -> None:
    alone = [curve for curve in CURVES if curve.arm != "fixed"]
    assert "no speed-ups: the arm fixed, the baseline, was not run" in sweep_table(
        summarise_sweep(alone, [1.0])
    )
    rows = sweep_table(summarise_sweep(CURVES, [-1.0])).splitlines()
    assert all("none arrived" in row for row in rows if row.startswith("  to -1"))
    assert sum(row.startswith("  to -1") for row in rows) == len({c.key for c in CURVES})


def test_seeds_that_never_arrive_show_in_the_table() -> None:
    text = sweep_table(summarise_sweep(CURVES, [1.0]))
    line = next(line for line in text.split("adaptive")[1].splitlines() if "to 1" in line)
    assert "2/3" in line
    assert "same lr ≤ 1.89x (0.26 to 13.80)" in line


def test_one_or_two_seeds_have_no_interval_and_that_is_said_once() -> None:
    summary = summarise_sweep([one for one in CURVES if one.seed == 0], [1.0])
    text = sweep_table(summary)
    assert text.count("fewer than 3 seeds have no interval; give --seeds 3 or more") == 1
    assert "adaptive at 0.001 (1 seed, 4.0 nodes): final" in text
    arrived = re.findall(r"1/1  same lr (.*)  best lr (.*)", text)
    assert arrived == [("1.00x", "0.67x"), ("1.00x", "1.00x"), ("3.00x", "2.00x")]
    two = summarise_sweep([one for one in CURVES if one.seed < 2], [1.0])
    assert "fewer than 3 seeds" in sweep_table(two)
    assert "| 3.00x |" in sweep_markdown(two)
    assert "fewer than" not in sweep_table(summarise_sweep(CURVES, [1.0]))


def test_the_header_says_which_interval() -> None:
    header = sweep_table(summarise_sweep(CURVES, [1.0])).split("\n\n")[0]
    assert "95 % intervals are\nStudent's t over paired seeds, from 3 on; from 10 on" in header


def test_an_arm_of_an_earlier_version_comes_last() -> None:
    old = [swept("long-steps", 1e-3, seed, [8.0, 1.0]) for seed in range(3)]
    lines = sweep_markdown(summarise_sweep([*old, *CURVES], [1.0])).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:5]] == ["fixed", "adaptive", "long-steps"]
