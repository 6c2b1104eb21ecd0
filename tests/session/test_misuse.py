"""What a host can do wrong, and that it is noticed before anything is lost."""

import pytest
import torch

from disback_plugin import DegradationPath, RecordConfig
from disback_plugin.errors import ConfigError, InstallError, PathError, SessionError
from tests.session.common import attach, settings
from tests.toy import ToyHost


def test_no_path_and_no_recording_settings_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="holds no path and no recording is configured"):
        attach(ToyHost(), settings(tmp_path, record=None)).begin_step(0)


def test_a_student_that_moves_during_recording_is_noticed(host, disback):
    with pytest.raises(SessionError, match="the student changed during recording"):
        for step in range(6):
            disback.begin_step(step)
            host.train_step(step, update_student=True)  # ignores turn.update_student
            disback.end_step(step)


def test_a_path_led_astray_by_a_moving_student_is_never_complete(host, disback, tmp_path):
    host.run(disback, range(2))
    disback.begin_step(2)
    host.train_step(2, update_student=True)
    disback.end_step(2)  # no node is due here, so it shows at the next one
    disback.begin_step(3)
    host.train_step(3, update_student=False)
    with pytest.raises(SessionError, match="the student changed"):
        disback.end_step(3)
    path = DegradationPath.open(tmp_path / "path")
    assert (len(path), path.complete) == (2, False)


def test_a_fake_score_that_does_not_start_as_the_teacher_is_refused(host, tmp_path):
    with torch.no_grad():
        host.fake_score[3].bias[0] += 1e-3
    with pytest.raises(InstallError, match=r"does not start as the teacher \(tensor '3.bias'"):
        attach(host, settings(tmp_path)).begin_step(0)
    assert list(tmp_path.iterdir()) == []


def test_recording_that_skipped_its_last_nodes_is_not_complete(host, tmp_path):
    disback = attach(host, settings(tmp_path, record=RecordConfig(num_steps=6, at=(2, 4, 5))))
    host.run(disback, range(3))
    with pytest.raises(SessionError, match="step 5 follows step 2, a jump while recording: give"):
        disback.begin_step(5)
    with pytest.raises(SessionError, match=r"end_step\(5\) comes after begin_step\(2\)"):
        disback.end_step(5)
    assert not disback.path.complete


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fake_score_that_does_not_train_is_noticed(tmp_path, dtype):
    disback = attach(ToyHost(teacher_dtype=dtype), settings(tmp_path))
    disback.begin_step(0)
    disback.end_step(0)
    with pytest.raises(PathError, match="equals the teacher: the fake score is not being trained"):
        disback.close()


def test_skipped_recording_steps_are_noticed(host, disback):
    host.run(disback, range(1))
    with pytest.raises(SessionError, match="step 3 follows step 0, a jump while recording"):
        disback.begin_step(3)
    disback.begin_step(1)
    with pytest.raises(SessionError, match=r"step 1 has not ended: call end_step\(\)"):
        disback.begin_step(2)


def test_calls_out_of_order_are_refused(disback):
    with pytest.raises(SessionError, match="before the first begin_step"):
        disback.end_step(0)
    disback.begin_step(5)
    with pytest.raises(SessionError, match="step 4 comes before step 5, where this session"):
        disback.begin_step(4)
    with pytest.raises(SessionError, match="before the first begin_step"):
        disback.load_state_dict(disback.state_dict())


@pytest.mark.parametrize(
    ("end", "warning"),
    [(4, "never installed a node"), (9, "training ended while node 2 answers")],
)
def test_training_that_ends_before_the_teacher_is_back_is_warned_about(
    host, disback, caplog, end, warning
):
    host.run(disback, range(end))
    disback.close()
    assert warning in caplog.text
    caplog.clear()
    host.run(disback, range(end, 13))
    disback.close()
    assert caplog.text == ""


def test_a_path_walked_without_ever_asking_for_its_nodes_is_an_error(host, tmp_path):
    disback = attach(host, settings(tmp_path, installation="separate"))
    for step in range(12):
        turn = disback.begin_step(step)
        host.train_step(step, turn.update_student)  # uses host.teacher, which never changes
        disback.end_step(step)
    with pytest.raises(SessionError, match="every node was installed, but none was used"):
        disback.begin_step(12)
