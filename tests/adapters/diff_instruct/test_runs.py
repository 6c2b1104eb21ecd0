"""What only Diff-Instruct has: its state file, ticks, rounds, a student's loss of two scores."""

import json
from pathlib import Path

from safetensors.torch import load_file

from tests.adapters import checks
from tests.adapters.cases import cases
from tests.adapters.runs import Runs

STATE = "disback-state.safetensors"


@cases("diff_instruct")
def test_a_killed_run_ends_in_the_same_state(runs: Runs) -> None:
    """Networks, average, optimizers and random numbers, bit for bit."""
    one, other = (load_file(runs.folder / name / STATE) for name in ("on", "resumed"))
    assert one.keys() == other.keys()
    assert {name.split("/")[0] for name in one} == {"module", "optimizer", "random"}
    for name in one:
        assert one[name].numpy().tobytes() == other[name].numpy().tobytes(), name


@cases("diff_instruct")
def test_the_averaged_student_is_held_then_moves(runs: Runs) -> None:
    """While recording the EMA of the student keeps the bytes of the initial student.

    And its optimizer, the second, has made no step: not one with a zero gradient either.
    """
    before, after = (load_file(runs.folder / name / STATE) for name in ("recording", "on"))
    moments = {name for name in after if name.startswith("optimizer/1/")}
    assert moments
    assert moments.isdisjoint(before)
    names = [name for name in before if name.startswith("module/Gema/")]
    for name in names:
        own = before[name.replace("Gema", "G")]
        assert own.numpy().tobytes() == before[name].numpy().tobytes(), name
    assert any(before[name].numpy().tobytes() != after[name].numpy().tobytes() for name in names)


@cases("diff_instruct")
def test_files_and_logs(runs: Runs) -> None:
    """One state file beside the snapshots, none without `--disback`; stage and node per tick."""
    on, off = runs.folder / "on", runs.folder / "off"
    assert (on / STATE).exists()
    assert len(list(on.glob("network-snapshot-*.pkl"))) == 7
    assert not (off / STATE).exists()
    ticks = _lines(on / "stats.jsonl")
    seen = [
        tuple(int(tick[f"disback/{name}"]["mean"]) for name in ("stage", "node")) for tick in ticks
    ]
    # after steps 0, 2, 4 (recording), 6 (node 2), 8 (node 1), 10 and 11 (the teacher)
    assert seen == [(0, 0), (0, 0), (0, 0), (1, 2), (1, 1), (2, 0), (2, 0)]
    assert [tick["disback/distance"]["mean"] > 0 for tick in ticks] == [
        node > 0 for _, node in seen
    ]
    options = json.loads((on / "training_options.json").read_text())
    assert options["disback_settings"]["config"]["record"]["at"] == list(checks.AT)
    assert "disback/node" not in (off / "stats.jsonl").read_text()


def _lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@cases("diff_instruct", num_processes=2)
def test_two_rounds_are_accumulated(runs: Runs) -> None:
    assert runs.notes("on")[0]["losses"][0].count(" ") == 1


@cases("diff_instruct", num_processes=1)
def test_the_arm_fixed_trains_as_before_and_resumes(runs: Runs) -> None:
    plain = runs.notes("plain")
    checks.same_training(plain[:2], runs.notes("fixed"))
    checks.resumed_is_the_same(plain, runs.notes("resumed-fixed"))


@cases("diff_instruct", num_processes=1)
def test_the_fake_score_as_real_score_gives_a_loss_of_zero(runs: Runs) -> None:
    """An install is exact: the student's loss is the difference of the two scores."""
    on, same = (runs.notes(name)[6]["losses"] for name in ("on", "fake-as-real"))
    assert float.fromhex(same[1]) == 0.0 != float.fromhex(on[1])


@cases("diff_instruct", num_processes=1)
def test_a_data_loader_with_a_worker_process_changes_nothing(runs: Runs) -> None:
    """The other runs read their data in the process itself, to save time."""
    assert runs.notes("with-worker") == runs.notes("plain")
