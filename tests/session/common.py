"""Settings of the session tests: six recording steps, four nodes, two steps a node."""

from disback_plugin import DisBack, DisBackConfig, RecordConfig

RECORD = RecordConfig(num_steps=6, at=(1, 2, 4, 6))


def settings(folder, **changes):
    return DisBackConfig(
        **{
            "path": folder / "path",
            "record": RECORD,
            "schedule": {"name": "fixed", "interval": 2},
            **changes,
        }
    )


def attach(host, config):
    return DisBack.attach(roles=host.roles, config=config)
