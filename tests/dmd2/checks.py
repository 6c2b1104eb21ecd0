"""What must hold of DMD2's runs: what holds of every host, and of its logs and pictures."""

from tests.dmd2.hosting import PICTURES
from tests.hosts.checks import (
    AT,
    INTERVAL,
    NUM_STEPS,
    RECORD,
    Notes,
    fake_score_is_the_node,
    flags,
    generator_is_held,
    nodes_are_installed,
    resumed_is_the_same,
    reusing,
    same_training,
    walks_at_once,
)

__all__ = [
    "AT",
    "INTERVAL",
    "NUM_STEPS",
    "RECORD",
    "Notes",
    "every_log_has_stage_and_node",
    "fake_score_is_the_node",
    "flags",
    "generator_is_held",
    "nodes_are_installed",
    "pictures_on_the_way_back_only",
    "resumed_is_the_same",
    "reusing",
    "same_training",
    "walks_at_once",
]


def every_log_has_stage_and_node(notes: Notes) -> None:
    """Each call of wandb.log by itself says where the run is: losses, pictures and times."""
    for line in notes:
        walked = line["step"] - RECORD
        node = 0 if walked < 0 else max(len(AT) - 1 - walked // INTERVAL, 0)
        stage = 0 if walked < 0 else 1 if node else 2
        for call in line["calls"]:
            assert call["disback"]["disback/stage"] == stage, (line["step"], call["names"])
            assert call["disback"]["disback/node"] == node, (line["step"], call["names"])


def pictures_on_the_way_back_only(notes: Notes, losses: bool) -> None:
    """Recording draws none; `losses`: the script logs losses at every step without pictures."""
    for line in notes:
        due = line["step"] % PICTURES == 0 and line["step"] >= RECORD
        with_pictures = [call for call in line["calls"] if call["pictures"]]
        assert len(with_pictures) == due, f"step {line['step']}"
        times = [call for call in line["calls"] if "per iteration time" in call["names"]]
        assert len(times) == (line is not notes[0])
        assert len(line["calls"]) == len(times) + (1 if losses or due else 0)
    assert sum(line["step"] % PICTURES == 0 for line in notes[:RECORD]) > 1
