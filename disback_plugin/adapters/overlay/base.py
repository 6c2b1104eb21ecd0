"""What a patched script calls around each of its steps. Without `--disback` it does nothing."""

import logging
from typing import Any

from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import is_main
from disback_plugin.session import DisBack

logger = logging.getLogger("disback")


class Overlay:
    """One training run's DisBack session; `config` is None without `--disback`.

    `update_student` is False while recording: the host then skips its student.
    """

    def __init__(self, config: DisBackConfig | None) -> None:
        self.config = config
        self.session: DisBack | None = None
        self.update_student = True
        self._has_begun = False

    def start(self, host: Any, adapter: str) -> None:
        """Attach once the host's networks are there, the teacher as it was built or loaded."""
        if self.config is not None:
            logging.basicConfig(format="%(message)s")
            logger.setLevel(logging.INFO if is_main() else logging.WARNING)
            self.session = DisBack.attach(host, adapter=adapter, config=self.config)

    def begin_step(self, step: int) -> None:
        """Before a training step, on every rank."""
        if self.session is not None:
            self._has_begun = True
            self.update_student = self.session.begin_step(step).update_student

    def end_step(self, step: int) -> None:
        """After a training step, on every rank, before the host saves."""
        if self.session is not None:
            self.session.end_step(step)

    def metrics(self, step: int) -> dict[str, float]:
        """What joins the host's log."""
        return {} if self.session is None else self.session.metrics(step)

    def close(self) -> None:
        """After the last step; a resume with no step left has nothing to warn about."""
        if self.session is not None and self._has_begun:
            self.session.close()
