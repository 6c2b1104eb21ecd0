"""Training with the callback: FastGen itself on its tiny EDM configuration, and the small host."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fastgen import checks
from tests.fastgen.hosting import Case, Host

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the real FastGen is slow to build
HOSTS = ["small", "real"]
GUIDED = ("model.guidance_scale=2.0",)


def run_as_before(case: Case, prefix: str = "", opts: tuple[str, ...] = ()) -> None:
    case.add(f"{prefix}plain", opts=opts, num_steps=4)
    case.add(f"{prefix}twin", opts=opts, num_steps=4, twin=True)
    case.add(f"{prefix}fixed", "arm: fixed", opts=opts, num_steps=4)


def run_with_disback(case: Case) -> None:
    case.add("whole", case.recording("path"))
    for name, stop in (("recording", 5), ("walking", 9)):  # checkpoints lie before: at 3 and 6
        case.add(name, case.recording(f"{name}-path"), stop=stop)
        case.add(f"{name}-on", case.recording(f"{name}-path"), resume=name)


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def case(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """All runs of one process, the last one killed."""
    case = Case(host, tmp_path_factory.mktemp("fastgen"))
    run_as_before(case)
    run_with_disback(case)
    if host.is_real:  # slow to build, and a launch may take so long only
        case.succeed()
    run_as_before(case, "guided-", GUIDED)
    case.add("guided", case.recording("guided-path"), opts=GUIDED)
    case.add("short", case.recording("short-path"), num_steps=4)  # node 3 is due after step 5
    case.add("longer", case.recording("short-path"), resume="short", num_steps=12)
    case.add("killed", case.recording("killed-path"), kill=8)
    assert case.launch() == [-9], case.log()
    return case


def test_the_arm_fixed_and_a_copy_of_the_teacher_train_as_without_disback(case: Case) -> None:
    checks.same_training(case.notes("plain"), case.notes("fixed"))
    checks.same_training(case.notes("plain"), case.notes("twin"))


def test_nodes_are_recorded_walked_and_answer_as_the_real_score_only(case: Case) -> None:
    checks.everything(case.notes("whole"), case.folder / "path")
    assert case.freq_at_end("whole") == checks.STUDENT_FREQ


@pytest.mark.parametrize(("name", "step"), [("recording", 3), ("walking", 6)])
def test_a_stopped_run_goes_on_with_the_walk(case: Case, name: str, step: int) -> None:
    before, after = case.notes(name), case.notes(f"{name}-on")
    assert after[0]["step"] == step
    checks.resumed(before, after, case.folder / f"{name}-path")


def test_guidance_asks_the_node_too(case: Case) -> None:
    checks.same_training(case.notes("guided-plain"), case.notes("guided-twin"))
    checks.same_training(case.notes("guided-plain"), case.notes("guided-fixed"))
    checks.everything(case.notes("guided"), case.folder / "guided-path", guided=True)


def test_a_finished_run_trained_longer_goes_on_with_its_next_step(case: Case) -> None:
    """FastGen labels the last checkpoint with an iteration that did not run."""
    short, longer = case.notes("short"), case.notes("longer")
    assert (short[-1]["iteration"], longer[0]["iteration"]) == (4, 6)
    checks.resumed(short, longer, case.folder / "short-path")
    assert case.freq_at_end("short") == checks.STUDENT_FREQ  # ended while the student was held


def test_a_killed_run_goes_on_from_its_last_checkpoint(case: Case) -> None:
    case.add("killed-on", case.recording("killed-path"), resume="killed")
    case.succeed()
    assert case.notes("killed-on")[0]["iteration"] == 7
    checks.resumed(case.notes("killed"), case.notes("killed-on"), case.folder / "killed-path")


def test_two_processes_walk_together(host: Host, tmp_path: Path) -> None:
    case = Case(host, tmp_path, num_processes=2)
    run_as_before(case)
    if host.is_real:
        case.succeed()
    run_with_disback(case)
    case.succeed()
    for rank in range(2):
        checks.same_training(case.notes("plain", rank), case.notes("fixed", rank))
        checks.same_training(case.notes("plain", rank), case.notes("twin", rank))
        checks.everything(case.notes("whole", rank), tmp_path / "path")
        for name in ("recording", "walking"):
            before, after = case.notes(name, rank), case.notes(f"{name}-on", rank)
            checks.resumed(before, after, tmp_path / f"{name}-path")
    first, second = case.notes("whole", 0), case.notes("whole", 1)
    assert [line["losses"] for line in first] != [line["losses"] for line in second]
    for key in ("generator", "fake", "real"):
        assert [line[key] for line in first] == [line[key] for line in second], key


def test_f_distill_asks_the_node_and_the_teachers_features(real: Host, tmp_path: Path) -> None:
    case = Case(replace(real, method="f_distill"), tmp_path)
    run_as_before(case)
    case.add("whole", case.recording("path"))
    case.succeed()
    checks.same_training(case.notes("plain"), case.notes("twin"))
    checks.everything(case.notes("whole"), tmp_path / "path")


def test_a_method_without_a_fake_score_is_refused(real: Host, tmp_path: Path) -> None:
    case = Case(replace(real, method="ladd"), tmp_path)
    case.add("whole", case.recording("path"))
    assert case.launch() == [1]
    assert "AdapterError: FastGen's LADDModel has no fake_score: DisBack needs" in case.log()
    assert not (tmp_path / "path").exists()
