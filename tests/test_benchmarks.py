"""`benchmarks/sdxl_size` in miniature: what it measures is what happens, and limits are judged."""

import json
import time

import pytest
import torch

from benchmarks.sdxl_size.process import bytes_read, own_memory, peak
from benchmarks.sdxl_size.report import limits, write_report
from benchmarks.sdxl_size.single import CAN_PREFETCH, Case, measure_codecs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdxl_size")
    case = Case("tiny", torch.bfloat16, CPU, 1, folder).measure()
    return {"cases": [case], "codecs": measure_codecs("tiny", CPU, 1, folder, 3), "ranks": []}


def test_a_case_times_every_part_and_walks_the_path_that_it_recorded(found):
    case = found["cases"][0]
    seconds = ("switch", "naive", "copy", "record", "save", "stall", "snapshot", "nothing_due")
    assert all(0 < case[key] < 60 for key in seconds)
    assert 4 * case["parameters"] < case["node_bytes"] < 6 * case["parameters"]
    assert ("prefetched_switch" in case) == CAN_PREFETCH


def test_the_codecs_are_compared_on_one_node_of_real_training_steps(found):
    rows = {row["codec"]: row for row in found["codecs"]}
    assert rows["full"]["error"] == 0.0
    assert 0 < rows["delta"]["error"] < 2**-8 < rows["bounded"]["error"] <= 0.1
    assert rows["bounded"]["share"] < 0.45 < 1 < rows["delta"]["share"] < 1.2


def test_the_report_says_what_holds_and_what_is_broken(tmp_path, found):
    case = found["cases"][0] | {"switch": 5.0, "naive": 1.0, "record": 1.0, "save": 1.0}
    broken = write_report({**found, "cases": [case]}, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("results.json", "results.md", "scaling.svg")
    ]
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert "| switch / naive, bfloat16 | 4 | 5 | tiny, bfloat16 | **broken** |" in lines
    assert "| record / safetensors + fsync | 1.5 | 1 | tiny, bfloat16 | holds |" in lines
    assert "switch / naive, bfloat16" in [row.what for row in broken]
    assert json.loads((tmp_path / "results.json").read_text())["cases"] == [case]


def test_the_worst_case_counts_and_what_is_no_number_is_broken(found):
    case = found["cases"][0]
    cases = [{**case, "network": str(kept), "kept": kept} for kept in (0.3, 0.4, 0.1)]
    row = next(row for row in limits({**found, "cases": cases}) if "one process" in row.what)
    assert (row.seen, row.where, row.broken) == (0.4, "0.4, bfloat16", False)
    nan = next(limits({**found, "cases": [{**case, "switch": float("nan")}]}))
    assert nan.broken


def test_a_small_network_is_judged_only_where_there_is_no_larger_one(found):
    small = found["cases"][0] | {"kept": 0.9}
    block = small | {"network": "block", "parameters": 34_000_000, "kept": 0.1}
    for cases, where in (([small], "tiny"), ([small, block], "block")):
        row = next(row for row in limits({**found, "cases": cases}) if "one process" in row.what)
        assert row.where == f"{where}, bfloat16"


def test_memory_and_bytes_are_those_of_this_process(tmp_path):
    file, size = tmp_path / "bytes", 60_000_000  # more than a heap keeps for reuse
    file.write_bytes(bytes(size))
    before = bytes_read()
    with peak() as seen:
        kept = file.read_bytes()
        until = time.monotonic() + 10
        while seen.own < 0.9 * size and time.monotonic() < until:
            time.sleep(0.01)  # the thread that looks may have to wait for a core
        del kept
    assert size <= bytes_read() - before < 1.1 * size
    assert 0.9 * size < seen.own < 1.5 * size
    assert own_memory() > 50_000_000
