"""What only FastGen has: turns, a teacher that gives features too, a last checkpoint's label."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.adapters import checks
from tests.adapters.cases import Case, cases
from tests.adapters.checks import AT, INTERVAL, NUM_STEPS, RECORD, Notes
from tests.adapters.fastgen.host import STUDENT_FREQ, FastGen
from tests.adapters.launching import log
from tests.adapters.runs import Run, Runs


def finished(runs: Runs, rank: int) -> list[Notes]:
    """The runs that have reached the end of their walk."""
    names = [("on",)] if runs.case.brief else [("on",), ("recording", "walking", "resumed")]
    names += [("short", "longer")] if (runs.folder / "short").exists() else []
    return [checks.joined(*(runs.notes(name, rank) for name in parts)) for parts in names]


@cases("fastgen")
def test_the_student_waits_for_its_turn(runs: Runs) -> None:
    """Its turn comes as FastGen has it, from the first iteration after recording."""
    assert any(line["student_turn"] for line in runs.notes("plain"))
    for rank in runs.ranks:
        for line in (line for notes in finished(runs, rank) for line in notes):
            turn = line["step"] >= RECORD and line["iteration"] % STUDENT_FREQ == 0
            assert line["student_turn"] == turn, line["iteration"]


@cases("fastgen")
def test_the_teacher_stays(runs: Runs) -> None:
    """Its bytes never change, and it alone gives features."""
    for rank in runs.ranks:
        teacher = runs.notes("on", rank)[0]["real"]
        for line in (line for notes in finished(runs, rank) for line in notes):
            assert line["teacher"] == teacher, line["step"]
            features = {who for what, who in line["calls"] if what == "features"}
            assert features == {teacher}, line["step"]


@cases("fastgen")
def test_nodes_answer_as_the_real_score_only(runs: Runs) -> None:
    """In its turn the student learns from the scheduled node; with guidance it asks it twice."""
    times = 2 if runs.case.options else 1
    for rank in runs.ranks:
        for notes in finished(runs, rank):
            answered = set()
            for line in notes:
                x0 = [who for what, who in line["calls"] if what == "x0"]
                assert x0 == [line["real"]] * times * line["student_turn"], line["step"]
                answered |= set(x0)
            assert len(answered) == len(AT)  # both nodes, and the teacher


@cases("fastgen")
def test_the_stage_is_logged_at_every_step(runs: Runs) -> None:
    for rank in runs.ranks:
        for notes in finished(runs, rank):
            stages = [line["logged"]["disback/stage"] for line in notes]
            assert stages[: checks.NUM_STEPS] == (
                [0] * RECORD + [1] * INTERVAL * (len(AT) - 1) + [2, 2]
            )


@cases("fastgen", brief=False, num_processes=1)
def test_a_finished_run_trained_longer_goes_on_with_its_next_step(runs: Runs) -> None:
    """FastGen labels the last checkpoint with an iteration that did not run."""
    short, longer = runs.notes("short"), runs.notes("longer")
    assert (short[-1]["iteration"], longer[0]["iteration"]) == (4, 6)
    both, path = checks.joined(short, longer), runs.folder / "short-path"
    assert [line["step"] for line in both] == list(range(checks.NUM_STEPS))
    checks.generator_is_held(both)
    checks.nodes_are_installed(both, path)
    checks.fake_score_is_the_node(both, path)


@cases("fastgen", brief=False, num_processes=1)
def test_the_students_frequency_comes_back(runs: Runs) -> None:
    for name in ("on", "short"):  # short: ended while the student was held
        assert runs.notes(name, "end.0") == [{"freq_at_end": STUDENT_FREQ}]


@cases("fastgen", num_processes=2)
def test_two_processes_walk_together(runs: Runs) -> None:
    first, second = runs.notes("on", 0), runs.notes("on", 1)
    for key in ("generator", "fake", "real"):
        assert [line[key] for line in first] == [line[key] for line in second], key


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_under_fsdp2_without_a_gan_nodes_are_installed_in_the_sharded_teacher(
    make_host, tmp_path: Path
) -> None:
    """FastGen's own sharding, on a mesh of CPUs in place of GPUs; with a GAN it is refused."""
    host: FastGen = make_host("fastgen", True)
    options = "trainer.fsdp=True trainer.fsdp_cpu_offload=True trainer.fsdp_min_num_params=1000 "
    case = Case(name="fsdp2", host="fastgen", real=True, num_processes=2, shard_from=1000,
                options=f"{options}model.gan_loss_weight_gen=0")  # fmt: skip
    assert host.launch(case, [Run("on", "path", NUM_STEPS)], tmp_path / "runs") == [0, 0]
    runs = Runs(case, host, tmp_path / "runs")
    for rank in runs.ranks:
        notes, path = runs.notes("on", rank), tmp_path / "runs" / "path"
        checks.generator_is_held(notes)
        checks.nodes_are_installed(notes, path)
        checks.fake_score_is_the_node(notes, path)
        for line in notes:
            assert line["teacher"] == line["real"]  # it is the one that answers
    with_gan = replace(case, options=f"{options}model.gan_loss_weight_gen=0.01")
    assert host.launch(with_gan, [Run("on", "path")], tmp_path / "gan") == [1, 1]
    assert "is sharded (trainer.fsdp) and gives the discriminator's" in log(tmp_path / "gan/launch")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_method_without_a_fake_score_is_refused(make_host, tmp_path: Path) -> None:
    host: FastGen = make_host("fastgen", True)
    case = Case(name="ladd", host="fastgen", real=True, kind="ladd")
    assert host.launch(case, [Run("on", "path")], tmp_path) == [1]
    refused = "AdapterError: FastGen's LADDModel has no fake_score: DisBack needs"
    assert refused in log(tmp_path / "launch")
    assert not (tmp_path / "path").exists()
