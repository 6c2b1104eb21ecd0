"""`disback path show --probe` on a run's path, and its refusal elsewhere."""

import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator

from disback_plugin.cli.main import main
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.network import TrainedNetwork
from disback_plugin.lab.trainer.probe import probe_path
from disback_plugin.lab.trainer.residuals import Residuals
from disback_plugin.lab.trainer.roles import make_sampler
from disback_plugin.measure import TeacherPull
from tests.lab.trainer.conftest import tiny_config
from tests.path.folders import edit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probe") / "out"
    run_experiment(tiny_config("distill.fake_lr=3e-3"), out, arms=("disback",))
    return out / "runs" / "disback-seed0" / "path"


def test_nodes_come_nearer_to_the_student_and_pull_less_than_the_teacher(path: Path) -> None:
    probes = probe_path(path).nodes
    assert [probe.index for probe in probes] == [0, 1, 2, 3]
    excess = [probe.mismatch.mean_excess for probe in probes]
    assert excess == sorted(excess, reverse=True)
    assert probes[0].health.cosine == pytest.approx((1.0,) * 3)
    sizes = [sum(probe.health.size) for probe in probes]
    assert sizes[0] == pytest.approx(3.0)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0.0  # the fake score starts at the last node: it does not pull


def test_the_command_prints_a_line_a_node(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["path", "show", str(path), "--probe"]) == 0
    table = capsys.readouterr().out.split("2,000 samples of the initial student")[1].splitlines()
    pull = probe_path(path).teacher
    assert table[0].startswith(f" the teacher's loss is {pull.loss:.3g}, and {pull.common:.0%} of")
    assert "automatic recording would record nothing, the pull is common." in table[1]
    assert [line.split()[0] for line in table[4:8]] == ["0", "1", "2", "3"]


def test_the_teachers_pull_is_the_one_that_automatic_recording_sees(path: Path) -> None:
    config = tiny_config("distill.batch_size=8000")  # a quarter of it is measured
    out = path.parent.parent.parent
    experiment = Experiment(config, out)
    problem, teacher = experiment.problem, experiment.teacher
    student = config.student.make(teacher, problem.data_shape, 0)
    accelerator = Accelerator(cpu=True)
    drawer = make_sampler(config, problem, 0, accelerator)
    settings = config.distill.student_optimizer_settings
    trained = TrainedNetwork("student", student, accelerator, settings)
    measure = Residuals(trained, drawer, config.distill, accelerator)
    seen, probed = TeacherPull.of(*measure(teacher)), probe_path(path).teacher
    assert seen.loss == pytest.approx(probed.loss, rel=0.2)
    assert seen.common == pytest.approx(probed.common, abs=0.1)


def test_a_path_of_another_student_than_the_runs_initial_one_is_not_probed(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(path.parent.parent.parent, tmp_path / "out")
    other = tmp_path / "out" / "runs" / "disback-seed0" / "path"
    edit(other, lambda manifest: manifest["recording"].update(student=1))
    assert main(["path", "show", str(other), "--probe"]) == 2
    assert "was not recorded for the initial student of its run" in capsys.readouterr().err


def test_a_path_alone_cannot_be_probed(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "path"
    shutil.copytree(path, alone)
    assert main(["path", "show", str(alone), "--probe"]) == 2
    assert "is not the path of a run of `disback run`" in capsys.readouterr().err
