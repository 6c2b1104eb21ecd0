"""What a host's measure may give, and what ranks make of it."""

import pytest
import torch

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.errors import ConfigError, SessionError
from disback_plugin.measure import TeacherPull
from tests.session.measured import APART, SAMPLES, TOGETHER
from tests.session.scripted import ADAPTIVE, AUTO, Script, attach
from tests.toy import ToyHost


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (3.0, "gave float"),
        ((TOGETHER[:0], SAMPLES[:0]), r"gave \(a tensor \(0, 2\), a tensor \(0, 2\)\)"),
        (TOGETHER, r"gave a tensor \(16, 2\)"),
        ((TOGETHER, SAMPLES[:2]), r"gave \(a tensor \(16, 2\), a tensor \(2, 2\)\)"),
        ((torch.tensor(3.0), torch.tensor(3.0)), r"gave \(a tensor \(\), a tensor \(\)\)"),
        ((3.0, SAMPLES), r"gave \(float, a tensor \(16, 2\)\)"),
    ],
)
def test_a_measure_that_gives_something_else_is_told_what_is_due(host, tmp_path, answer, seen):
    with pytest.raises(SessionError, match=f"{seen}: it must return two tensors"):
        attach(host, tmp_path, lambda network: answer).begin_step(0)


@pytest.mark.parametrize("num", [15, 16])
def test_a_measure_of_few_samples_is_warned_of_once(host, tmp_path, caplog, num):
    disback = attach(host, tmp_path, lambda network: (3.0 * TOGETHER[:num], SAMPLES[:num]))
    host.run(disback, range(6))
    assert caplog.text.count("gives 15 samples in all: under 16") == (num < 16)


def test_a_measure_that_ignores_its_network_is_told(host, tmp_path):
    disback = attach(host, tmp_path, lambda network: (2 * APART, SAMPLES))
    what = "the very loss of the network before it, 4, as at 4 due nodes in a row: measure"
    with pytest.raises(SessionError, match=what):
        host.run(disback, range(6))


def test_a_measure_that_is_no_function_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="measure must be a function, not True"):
        attach(ToyHost(), tmp_path, True)


def test_a_way_to_reset_the_fake_scores_optimizer_is_refused_with_the_reason(host, tmp_path):
    config = DisBackConfig(record=AUTO, schedule=ADAPTIVE, path=tmp_path / "path")
    reset = host.fake_optimizer.state.clear
    with pytest.raises(ConfigError, match="was removed: no path is recorded in mid-run any more"):
        DisBack.attach(roles=host.roles, config=config, reset_fake_optimizer=reset)


def test_a_student_whose_samples_are_not_finite_decides_nothing(host, tmp_path):
    for answer, seen in (
        ((float("nan") * SAMPLES, SAMPLES), "the teacher's loss is nan"),
        ((TOGETHER, float("nan") * SAMPLES), "the common share of its pull nan"),
    ):
        with pytest.raises(SessionError, match=seen):
            attach(host, tmp_path, lambda network, answer=answer: answer).begin_step(0)
    assert not (tmp_path / "path").exists()


def test_without_a_measure_all_nodes_are_kept_for_the_cap(host, tmp_path, caplog):
    turns = host.run(attach(host, tmp_path, None), range(20))
    assert [turn.node for turn in turns] == [0] * 6 + [3] * 4 + [2] * 4 + [1] * 4 + [0] * 2
    assert "has no measure to decide from, so all 4 nodes are kept" in caplog.text


def test_what_counts_is_the_mean_over_ranks(tmp_path, monkeypatch):
    other = (1.3**0.5 * APART, SAMPLES)
    monkeypatch.setattr("disback_plugin.measure.gather", lambda value: [value, other])
    host = ToyHost()
    turn = attach(host, tmp_path, Script(host, 0.8)).begin_step(0)
    assert turn.stage == "record"  # (0.8 + 1.3) / 2 is above min_loss, 0.8 is not
    monkeypatch.setattr(
        "disback_plugin.measure.gather", lambda value: [value, (3 * value[0], value[1] + 1.0)]
    )
    measure = Script(host, 10.0, fake=[8.0])
    disback = attach(host, tmp_path / "losses", measure)
    monkeypatch.setattr(disback._measurement, "teacher", lambda: TeacherPull(10.0, 0.0))
    host.run(disback, range(1))
    assert disback.state_dict()["progress"]["recording"]["losses"] == [
        10.0,
        pytest.approx((8.0 + 3 * 9.0) / 4),
    ]


def test_rank_0_decides_and_tells(tmp_path, monkeypatch, caplog):
    seen = []

    def on_main(work, what):
        seen.append(what)
        return work()

    monkeypatch.setattr("disback_plugin.measure.on_main", on_main)
    monkeypatch.setattr("disback_plugin.recorder.is_main", lambda: False)
    host = ToyHost()
    attach(host, tmp_path, Script(host, 9.0, pull=TOGETHER)).begin_step(0)
    assert seen == ["finding the teacher's pull"]
    assert "all alike" not in caplog.text
