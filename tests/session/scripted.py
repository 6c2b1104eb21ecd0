"""Automatic recording with a measure whose losses are given as lists."""

from disback_plugin import DisBack, DisBackConfig
from tests.session.measured import APART, SAMPLES

AUTO = {"num_steps": 6, "auto": {"stop_at": 0.2, "noise": 0.9}}  # at 1 2 4 6
ADAPTIVE = {"name": "adaptive", "cap": 4, "every": 2, "reached": 0.5, "known": 0.0}


class Script:
    """A measure that answers from lists of losses: the fake score's, and the real score's."""

    def __init__(self, host, teacher, fake=(), nodes=(), pull=APART):
        self.host, self.pull = host, pull
        self.answers = {"fake": list(fake), "real": [teacher, *nodes]}

    def __call__(self, network):
        loss = self.answers["fake" if network is self.host.fake_score else "real"].pop(0)
        return loss**0.5 * self.pull, SAMPLES


def attach(host, folder, measure, **changes):
    settings = {"record": AUTO, "schedule": ADAPTIVE, "path": folder / "path", **changes}
    return DisBack.attach(roles=host.roles, config=DisBackConfig(**settings), measure=measure)
