"""What must hold of every host: off it trains as before; on it walks the path, killed or not."""

import torch

from disback_plugin.path.manifest import read_manifest
from tests.adapters import checks
from tests.adapters.cases import cases
from tests.adapters.runs import Runs

KILLED = ("recording", "walking", "resumed")


@cases()
def test_off_is_identical(runs: Runs) -> None:
    for rank in runs.ranks:
        for name in runs.host.unchanged:
            same = runs.notes("plain", rank), runs.notes(name, rank)
            checks.same_training(*same, but=runs.host.only_ours)


@cases()
def test_walk(runs: Runs) -> None:
    """The path is recorded while the generator is held, and walked back to the teacher."""
    for rank in runs.whole_ranks:
        on, path = runs.notes("on", rank), runs.folder / "path"
        assert [line["step"] for line in on] == list(range(runs.host.num_steps))
        checks.generator_is_held(on)
        checks.nodes_are_installed(on, path, runs.case.dtype)
        checks.fake_score_is_the_node(on, path)


@cases()
def test_the_path_says_what_it_was_recorded_under(runs: Runs) -> None:
    """The host's own settings, so that a reuse under others can be told."""
    recording = read_manifest(runs.folder / "path").recording
    if runs.host.setting is None:  # attached to as it is: its user says what
        assert "host" not in recording
        return
    under = recording["host"]
    assert runs.host.setting in under
    if "script" in under:  # of a patched one
        assert under["num_processes"] == runs.case.num_processes
    assert not [name for name in under if name.startswith("disback")]


@cases(brief=False)
def test_killed_run(runs: Runs) -> None:
    """Killed while recording and on the way back, it goes on with the walk."""
    for rank in runs.ranks:
        walking, resumed = runs.notes("walking", rank), runs.notes("resumed", rank)
        assert (walking[0]["step"], resumed[0]["step"]) == runs.host.resumed_at
        assert resumed[-1]["step"] == runs.host.num_steps - 1
        if runs.host.resumes_exactly:
            on = runs.notes("on", rank)
            checks.resumed_is_the_same(on[: len(walking) + walking[0]["step"]], walking)
            checks.resumed_is_the_same(on, resumed)
    for rank in runs.whole_ranks:
        joined = checks.joined(*(runs.notes(name, rank) for name in KILLED))
        checks.nodes_are_installed(joined, runs.folder / "killed-path", runs.case.dtype)
        checks.fake_score_is_the_node(joined, runs.folder / "killed-path")


@cases(brief=False)
def test_a_recorded_path_is_walked_at_once(runs: Runs) -> None:
    for rank in runs.whole_ranks:
        checks.walks_at_once(runs.notes("reused", rank), runs.notes("on", rank))


@cases(num_processes=2)
def test_ranks_draw_their_own_data(runs: Runs) -> None:
    first, second = (runs.notes("on", rank)[0]["losses"] for rank in runs.ranks)
    assert first != second


@cases(automatic=True)
def test_a_student_that_the_teacher_knows_is_trained_as_without(runs: Runs) -> None:
    """`--disback` alone: nothing is recorded, which is said, and not a bit is another."""
    for rank in runs.ranks:
        same = runs.notes("known", rank), runs.notes("declined", rank)
        checks.same_training(*same, but=("logged", "calls", *runs.host.only_ours))
    assert not (runs.folder / "declined-path").exists()
    assert "the teacher knows the student's samples (loss " in runs.log


@cases(automatic=True)
def test_a_path_is_recorded_for_a_student_that_the_teacher_does_not_know(runs: Runs) -> None:
    assert read_manifest(runs.folder / "auto-path").recording["auto"]["min_loss"] == 1.0
    assert "a path is recorded: the teacher's loss on the student's samples is " in runs.log
    for rank in runs.whole_ranks:
        auto = runs.notes("auto", rank)
        checks.an_automatic_path_is_walked(auto, runs.folder / "auto-path", runs.case.dtype)


@cases(automatic=True)
def test_a_killed_run_decides_the_same(runs: Runs) -> None:
    """Killed while recording and on the way back, by no flags but the host's own."""
    for rank in runs.ranks:
        whole = runs.notes("auto", rank)
        walking, resumed = (runs.notes(f"auto-{name}", rank) for name in ("walking", "resumed"))
        assert 0 < walking[0]["step"] < 8 <= resumed[0]["step"] < 10
        checks.resumed_is_the_same(whole[: len(walking) + walking[0]["step"]], walking)
        checks.resumed_is_the_same(whole, resumed)
    in_folders = runs.host.upstream != "diff_instruct"  # its states are pickles
    if runs.case.dtype == torch.float32 and in_folders:
        checks.first_answers_as_recorded(runs.folder)
