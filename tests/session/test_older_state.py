"""What an earlier version wrote, which could wait and record in mid-run: loaded, or refused."""

import json

import pytest
import torch

from disback_plugin.errors import ConfigError, SessionError
from disback_plugin.path import DegradationPath
from tests.path.folders import edit
from tests.session.common import attach as plain
from tests.session.common import settings
from tests.session.measured import APART, TOGETHER
from tests.session.scripted import ADAPTIVE, Script, attach
from tests.toy import ToyHost, same_roles

NEVER = {"common_loss": None, "decided": 0, "wait": 0}


def version_1(disback, stride):
    """The state as version 1 wrote it; stride None: as it did before it knew long steps."""
    state = json.loads(json.dumps(disback.state_dict()))
    state["version"] = 1
    start = state["progress"].pop("start")
    state["progress"]["direct"] = start in ("known", "common")
    if stride is not None:
        state["progress"]["stride"] = stride
        if state["settings"]["schedule"]["name"] == "adaptive":
            state["settings"]["schedule"]["stride"] = 3.0
    return state


@pytest.mark.parametrize("stride", [NEVER, None])
@pytest.mark.parametrize("stop_at", [1, 3, 5, 7, 11])
def test_a_run_that_never_waited_goes_on_bit_for_bit(tmp_path, stop_at, stride):
    def script(host):
        return Script(host, 9.0, fake=[8.0, 6.0, 4.0, 2.0], nodes=[2.0, 0.9, 2.0, 1.5, 2.0, 0.9])

    whole, host, again = ToyHost(), ToyHost(), ToyHost()
    turns = whole.run(attach(whole, tmp_path / "whole", script(whole)), range(16))
    measure = script(host)
    disback = attach(host, tmp_path / "cut", measure)
    first = host.run(disback, range(stop_at))
    resumed = attach(again, tmp_path / "cut", measure)
    again.load(host)
    measure.host = again
    resumed.load_state_dict(version_1(disback, stride))
    rest = again.run(resumed, range(stop_at, 16))
    assert [turn.node for turn in first + rest] == [turn.node for turn in turns]
    assert same_roles(whole, again)


@pytest.mark.parametrize("stride", [NEVER, {"common_loss": None, "decided": 6, "wait": 0}])
@pytest.mark.parametrize(
    ("loss", "pull", "start"), [(0.9, APART, "known"), (9.0, TOGETHER, "common")]
)
def test_a_run_that_recorded_nothing_goes_on_with_the_teacher(
    host, tmp_path, loss, pull, start, stride
):
    disback = attach(host, tmp_path, Script(host, loss, pull=pull))
    host.run(disback, range(8))
    resumed = attach(ToyHost(), tmp_path, None)
    resumed.load_state_dict(version_1(disback, stride))
    assert resumed.begin_step(8).stage == "teacher"
    assert resumed.state_dict()["progress"]["start"] == start
    assert resumed.state_dict()["version"] == 2


@pytest.mark.parametrize(
    ("pull", "stride", "why"),
    [
        (TOGETHER, {"common_loss": 9.0, "decided": 0, "wait": 2}, "takes long steps, or waits"),
        (TOGETHER, {"common_loss": None, "decided": 4, "wait": 4}, "takes long steps, or waits"),
        (APART, {"common_loss": None, "decided": 4, "wait": 0}, "recorded in mid-run, which was"),
    ],
)
def test_a_run_that_waited_or_recorded_in_mid_run_is_refused(host, tmp_path, pull, stride, why):
    disback = attach(host, tmp_path, Script(host, 9.0, fake=[8.0], pull=pull))
    host.run(disback, range(1))
    again = ToyHost()
    with pytest.raises(SessionError, match=f"of version 1 belongs to a run that {why}"):
        attach(again, tmp_path, Script(again, 9.0)).load_state_dict(version_1(disback, stride))


def test_a_recording_that_was_not_measured_keeps_all_its_nodes(tmp_path):
    host, again = ToyHost(), ToyHost()
    disback = attach(host, tmp_path, None)
    host.run(disback, range(3))
    resumed = attach(again, tmp_path, Script(again, 9.0, nodes=[9.0] * 9))
    again.load(host)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    again.run(resumed, range(3, 7))
    assert resumed.path is not None
    assert [node.step for node in resumed.path] == [1, 2, 4, 6]


def test_a_walk_that_was_not_measured_goes_on_by_its_caps(tmp_path, caplog):
    """Of a host that had no measure when it was saved, and has one now."""
    caplog.set_level("INFO", "disback")
    host, again = ToyHost(), ToyHost()
    disback = attach(host, tmp_path, None, record={"num_steps": 3, "at": [1, 2, 3]})
    host.run(disback, range(5))  # nodes 2 and 1 for 4 steps each
    measure = Script(again, 9.0)
    resumed = attach(again, tmp_path, measure, record={"num_steps": 3, "at": [1, 2, 3]})
    again.load(host)
    resumed.load_state_dict(json.loads(json.dumps(disback.state_dict())))
    turns = again.run(resumed, range(5, 12))
    assert [turn.node for turn in turns] == [2] * 2 + [1] * 4 + [0]
    assert measure.answers["real"] == [9.0]  # never asked
    assert caplog.text.count("goes on by its cap alone") == 1


def test_a_state_of_a_version_to_come_is_refused(host, tmp_path):
    disback = attach(host, tmp_path, Script(host, 0.9))
    host.run(disback, range(1))
    with pytest.raises(SessionError, match="has version 3, expected 2"):
        attach(ToyHost(), tmp_path, None).load_state_dict({**disback.state_dict(), "version": 3})


def recorded_in_mid_run(folder):
    """The folder of a path whose manifest tells the step at which an earlier version began it."""
    host, record = ToyHost(), {"num_steps": 2, "at": [1, 2]}
    host.run(attach(host, folder, None, record=record), range(2))
    edit(folder / "path", lambda manifest: manifest["recording"].update(begun_at=4))
    return record


def test_a_path_from_mid_run_is_opened_and_walked(tmp_path):
    recorded_in_mid_run(tmp_path)
    assert DegradationPath.open(tmp_path / "path").verify() == []
    again = ToyHost()
    turns = again.run(attach(again, tmp_path, None, record=None, schedule=ADAPTIVE), range(6))
    assert [turn.node for turn in turns] == [1] * 4 + [0] * 2


def test_a_path_from_mid_run_is_not_the_one_that_would_be_recorded(tmp_path):
    record = recorded_in_mid_run(tmp_path)
    with pytest.raises(ConfigError, match="recorded with .*'begun_at': 4.*leave 'record' out"):
        attach(ToyHost(), tmp_path, None, record=record).begin_step(0)


def test_a_run_of_the_older_default_rounding_goes_on_with_it(tmp_path):
    whole, host = (ToyHost(teacher_dtype=torch.bfloat16) for _ in range(2))
    older = settings(tmp_path / "whole", rounding="stochastic")
    whole.run(plain(whole, older), range(16))
    disback = plain(host, settings(tmp_path / "cut", rounding="stochastic"))
    host.run(disback, range(7))
    for _ in range(2):  # a second resume too
        state, again = disback.state_dict(), ToyHost(teacher_dtype=torch.bfloat16)
        disback = plain(again, settings(tmp_path / "cut"))
        again.load(host)
        disback.load_state_dict(json.loads(json.dumps(state)))
    again.run(disback, range(7, 16))
    assert same_roles(whole, again)
    other = plain(
        ToyHost(teacher_dtype=torch.bfloat16), settings(tmp_path / "cut", rounding="nearest")
    )
    with pytest.raises(SessionError, match="rounding: stochastic -> nearest"):
        other.load_state_dict(state)
