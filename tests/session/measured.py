"""A session that waits for its recording: a measure by script, settings, and what they give."""

import torch

from disback_plugin import DisBack, DisBackConfig

RECORD = {"num_steps": 4, "auto": {"noise": 1.0, "stop_at": 0.01}}  # nodes after 1, 2 and 4 steps
SCHEDULE = {"name": "adaptive", "cap": 2, "every": 5}
SAMPLES = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).repeat(4, 1)
APART = 2**0.5 * SAMPLES.flip(1) * torch.tensor([1.0, -1.0])  # a rotation: nothing in common
TOGETHER = torch.ones(16, 2)  # one shift
FAR, LATER = 9.0 * TOGETHER, 2.0 * TOGETHER  # pulls
PATH = [FAR, LATER, 2.0 * APART]  # long steps at steps 0 to 3, a path from step 4 on
STAGES = ["teacher"] * 4 + ["record"] * 4 + ["backtrack"] * 4 + ["teacher"] * 3


class Measured:
    """The teacher's pulls in order, then a small one for nodes; the fake score's loss falls."""

    def __init__(self, host, pulls):
        self.host, self.pulls, self.fake, self.num_asked = host, list(pulls), 2.0, 0

    def __call__(self, network):
        self.num_asked += 1
        if network is self.host.fake_score:
            self.fake *= 0.9
            return self.fake * APART, SAMPLES
        return (self.pulls.pop(0) if self.pulls else APART), SAMPLES


def attach(host, folder, measure, **changes):
    settings = {"record": RECORD, "schedule": SCHEDULE, "path": folder / "path"}
    reset = changes.pop("reset", lambda: host.fake_optimizer.state.clear())
    config = DisBackConfig(**{**settings, **changes})
    return DisBack.attach(
        roles=host.roles, config=config, measure=measure, reset_fake_optimizer=reset
    )
