"""Settings of a session: what is refused, and with which words."""

import pytest

from disback_plugin import DisBackConfig, RecordConfig
from disback_plugin.config import AutoRecord, log_spaced
from disback_plugin.config_base import parse_settings
from disback_plugin.errors import ConfigError
from disback_plugin.schedule import PerNode


def test_every_and_at_give_the_same_nodes():
    assert RecordConfig(num_steps=200, every=50).node_steps == (50, 100, 150, 200)
    assert RecordConfig(num_steps=25, at=(2, 4, 7, 13, 25)).node_steps == (2, 4, 7, 13, 25)
    assert RecordConfig(num_steps=120, every=50).node_steps == (50, 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 10}, "exactly one of"),
        ({"num_steps": 10, "every": 5, "at": [5]}, "exactly one of"),
        ({"num_steps": 10, "every": 11}, "no node"),
        ({"num_steps": 10, "at": [4, 4]}, "must rise"),
        ({"num_steps": 10, "at": [5, 11]}, "must rise within 1..num_steps=10"),
        ({"num_steps": 10, "at": []}, "must rise"),
        ({"num_steps": 0, "every": 1}, "greater than 0"),
        ({"num_step": 10, "every": 1}, "did you mean 'num_steps'"),
    ],
)
def test_bad_recording_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(RecordConfig, settings, "record")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arm": "disback"}, "needs 'path'"),
        ({"path": "p", "arm": "warmed"}, "'disback', 'warm' or 'fixed'"),
        ({"path": "p", "shedule": {}}, "did you mean 'schedule'"),
        ({"path": "p", "schedule": {"name": "fixed"}}, "interval"),
        ({"path": "p", "codec": "zip"}, "'full', 'delta' or 'bounded'"),
        (
            {
                "path": "p",
                "record": {"num_steps": 100, "every": 25},
                "schedule": {"name": "per-node", "intervals": [1, 2]},
            },
            "give 3 intervals",
        ),
        ({"path": "p", "record": {"num_steps": 4, "at": [4]}}, "nothing to walk back"),
        (
            {
                "path": "p",
                "record": {"num_steps": 4, "auto": {}},
                "schedule": {"name": "per-node", "intervals": [5, 5]},
            },
            "automatic recording may keep fewer",
        ),
    ],
)
def test_bad_session_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(DisBackConfig, settings, "disback")


def test_settings_survive_json():
    config = DisBackConfig(
        path="p",
        record=RecordConfig(num_steps=4, at=(1, 4)),
        schedule={"name": "per-node", "intervals": [3]},
        codec="delta",
    )
    assert DisBackConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.schedule == PerNode(intervals=(3,))


def test_settings_are_frozen_and_keyword_only():
    config = DisBackConfig(arm="fixed")
    with pytest.raises(ValueError, match="frozen"):
        config.arm = "warm"
    with pytest.raises(TypeError):
        DisBackConfig("fixed")


def test_settings_constructed_in_code_raise_the_projects_own_error():
    with pytest.raises(ConfigError, match="DisBackConfig: unknown key 'shedule'.*'schedule'"):
        DisBackConfig(path="p", shedule={})
    with pytest.raises(ConfigError, match="RecordConfig: every: .*greater than 0 .seen: -1"):
        RecordConfig(num_steps=3, every=-1)


@pytest.mark.parametrize(
    ("num_steps", "steps"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (10, (1, 2, 4, 8, 10)), (16, (1, 2, 4, 8, 16))],
)
def test_nodes_are_log_spaced_up_to_the_cap(num_steps, steps):
    assert log_spaced(num_steps) == steps
    assert RecordConfig(num_steps=num_steps, auto=AutoRecord()).node_steps == steps


def test_a_record_is_either_regular_listed_or_automatic():
    with pytest.raises(ConfigError, match=r"exactly one of 'every' .*, 'at' .* and 'auto'"):
        RecordConfig(num_steps=4, at=(1, 2), auto=AutoRecord())
