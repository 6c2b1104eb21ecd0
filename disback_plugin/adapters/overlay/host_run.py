"""What a host's own arguments say of its run, held against the settings before anything loads."""

import logging
import os
from dataclasses import dataclass

from disback_plugin.config import DisBackConfig
from disback_plugin.errors import ConfigError, count
from disback_plugin.path.manifest import FILE_NAME, read_manifest
from disback_plugin.schedule import Adaptive

logger = logging.getLogger("disback")


@dataclass(frozen=True)
class HostRun:
    """The run's length in steps, None where it is not known yet, and the arguments that give it.

    warm_up: the arguments by which the fake score's learning rate begins at 0; None: it does not.
    """

    num_steps: int | None
    length_from: str
    warm_up: str | None = None

    def check(self, config: DisBackConfig) -> None:
        """Raise ConfigError for a node that cannot differ from the teacher; warn if too short."""
        record = config.record
        is_listed = record is not None and record.auto is None  # auto minds what does not move
        if self.warm_up and record and is_listed and record.node_steps[0] == 1:
            raise ConfigError(
                f"with {self.warm_up} the learning rate begins at 0, so after the first iteration "
                "the fake score still equals the teacher: no node can be kept there. Keep the "
                "first one later (--disback_record_at 2,...), or train without the warm-up"
            )
        self.warn_if_short(config)

    def warn_if_short(self, config: DisBackConfig) -> None:
        """On rank 0, where the run would end before the teacher's turn."""
        if config.arm == "fixed" or self.num_steps is None or os.environ.get("RANK", "0") != "0":
            return
        record, folder = config.record, config.path
        if folder is None or not (record or (folder / FILE_NAME).exists()):
            return  # refused elsewhere
        num_nodes = len(record.node_steps if record else read_manifest(folder).nodes)
        needed = record.num_steps if record else 0
        if config.arm == "disback":
            needed += config.schedule.num_steps(num_nodes)
        if self.num_steps <= needed:
            most = "up to " if isinstance(config.schedule, Adaptive) else ""
            logger.warning(
                "%s: the run has %s, but recording and the way back over %s take %s%s, so it would "
                "end before the teacher's turn: train longer than that, or shorten the schedule",
                *(self.length_from, count(self.num_steps, "step"), count(num_nodes, "node")),
                *(most, f"{needed:,}"),
            )
