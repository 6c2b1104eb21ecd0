"""Steps count on by one: what restarts, stands still or jumps is named, in both stages alike."""

import json

import numpy as np
import pytest
import torch

from disback_plugin.errors import ConfigError, SessionError
from tests.session.common import attach, settings
from tests.toy import ToyHost, network


def recorded(folder):
    host = ToyHost()
    host.run(attach(host, settings(folder)), range(6))


def begin(folder, **changes):
    host = ToyHost()
    return host, attach(host, settings(folder, **changes))


@pytest.mark.parametrize(("stop", "stage"), [(3, "record"), (9, "backtrack"), (13, "teacher")])
@pytest.mark.parametrize("back", [1, 2])
def test_a_step_number_that_restarts_is_an_error_in_every_stage(tmp_path, stop, stage, back):
    host, disback = begin(tmp_path)
    assert host.run(disback, range(stop))[-1].stage == stage
    with pytest.raises(SessionError, match=r"comes after step \d+: give every step .* over epochs"):
        disback.begin_step(stop - 1 - back)
    assert disback.begin_step(stop).step == stop  # nothing was lost by it


def test_a_step_number_that_restarts_with_a_reused_path_is_an_error(tmp_path):
    recorded(tmp_path)
    host, disback = begin(tmp_path, record=None)
    host.run(disback, range(9))
    with pytest.raises(SessionError, match="step 0 comes after step 8"):
        disback.begin_step(0)


def test_a_jump_is_an_error_while_recording_and_a_warning_after(tmp_path, caplog):
    host, disback = begin(tmp_path)
    host.run(disback, range(2))
    with pytest.raises(SessionError, match="step 3 follows step 1, a jump while recording"):
        disback.begin_step(3)
    host.run(disback, range(2, 7))
    assert caplog.text == ""
    turns = host.run(disback, range(8, 14, 2))
    assert [turn.node for turn in turns] == [2, 1, 0]
    assert caplog.text.count("step 8 follows step 6: the schedule counts the host's numbers") == 1
    assert "step 10 follows" not in caplog.text  # said once


def test_a_step_that_stands_still_is_warned_about_once(tmp_path, caplog):
    host, disback = begin(tmp_path)
    host.run(disback, range(2))
    assert caplog.text == ""
    for _ in range(3):
        host.run(disback, range(1, 2))
    assert caplog.text.count("step 1 begins again after its end: give every step a number") == 1
    assert "gradient accumulation" in caplog.text


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_step_ended_under_another_number_is_an_error(tmp_path, order):
    disback = begin(tmp_path)[1]
    first, last = order
    disback.begin_step(first)
    with pytest.raises(SessionError, match=r"begin_step\(\d\): give both|comes before step 1"):
        disback.end_step(last)


@pytest.mark.parametrize(("saved", "stage"), [(3, "record"), (9, "backtrack")])
def test_a_resume_may_repeat_the_last_step_and_goes_back_no_further(tmp_path, saved, stage):
    host, disback = begin(tmp_path)
    host.run(disback, range(saved))
    state = disback.state_dict()
    for step in (saved - 1, saved):
        again = begin(tmp_path)[1]
        again.load_state_dict(state)
        assert again.begin_step(step).stage == stage
    again = begin(tmp_path)[1]
    again.load_state_dict(state)
    message = f"step 0 comes after the checkpoint's last step {saved - 1}"
    with pytest.raises(SessionError, match=message):
        again.begin_step(0)


def test_a_resume_that_leaves_out_recording_steps_is_an_error(tmp_path):
    host, disback = begin(tmp_path)
    host.run(disback, range(2))
    again = begin(tmp_path)[1]
    again.load_state_dict(disback.state_dict())
    with pytest.raises(SessionError, match="step 4 follows the checkpoint's last step 1, a jump"):
        again.begin_step(4)


@pytest.mark.parametrize(
    ("first_step", "trained", "told"),
    [(500, True, True), (500, False, False), (0, True, False), (1, True, False)],
)
def test_a_resume_that_forgot_its_state_is_told_and_no_other_start(
    tmp_path, caplog, first_step, trained, told
):
    recorded(tmp_path)
    caplog.clear()
    host, disback = begin(tmp_path, record=None)
    if trained:
        host.student.load_state_dict(network(7).state_dict())
    disback.begin_step(first_step)
    assert ("If this run was resumed, call load_state_dict() first" in caplog.text) == told


def test_a_resume_that_forgot_its_state_and_would_record_is_an_error(tmp_path):
    recorded(tmp_path)
    host, disback = begin(tmp_path)
    host.student.load_state_dict(network(7).state_dict())
    with pytest.raises(ConfigError, match=r"or this run was resumed: then call load_state_dict\("):
        disback.begin_step(500)


def test_a_node_that_equals_the_teacher_names_the_usual_causes(tmp_path):
    disback = begin(tmp_path)[1]
    disback.begin_step(0)
    disback.end_step(0)
    with pytest.raises(ValueError, match="warms up from 0 .*accumulated update, a GradScaler"):
        disback.close()


@pytest.mark.parametrize("kind", [np.int64, torch.tensor, np.uint8])
def test_steps_may_be_whole_numbers_of_any_library(tmp_path, kind):
    host, disback = begin(tmp_path)
    nodes = []
    for number in range(14):
        turn = disback.begin_step(kind(number))
        assert type(turn.step) is int
        nodes.append(turn.node)
        host.train_step(number, turn.update_student)
        disback.end_step(kind(number))
    assert nodes == [0] * 6 + [3, 3, 2, 2, 1, 1, 0, 0]
    assert json.loads(json.dumps(disback.state_dict()))["progress"]["last_step"] == 13


@pytest.mark.parametrize("step", [0.0, "0", None])
def test_a_step_that_is_no_whole_number_is_an_error(tmp_path, step):
    _, disback = begin(tmp_path)
    for call in (disback.begin_step, disback.end_step):
        with pytest.raises(SessionError, match="a step is a whole number .seen: (float|str|None)"):
            call(step)
