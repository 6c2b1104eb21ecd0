"""What a patched script calls around each of its steps. Without `--disback` it does nothing."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from disback_plugin.adapter import get_adapter
from disback_plugin.adapters.overlay import side_file
from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import is_main
from disback_plugin.errors import ConfigError, SessionError
from disback_plugin.progress import as_saved
from disback_plugin.session import DisBack

logger = logging.getLogger("disback")


class Overlay:
    """One training run's DisBack session; `config` is None without `--disback`.

    `update_student` is False while recording: the host then skips its student.
    left_open: settings that no flag says (see `flag_settings.left_open`).
    """

    def __init__(self, config: DisBackConfig | None, left_open: Sequence[str] = ()) -> None:
        self.config, self._left_open = config, left_open
        self.session: DisBack | None = None
        self.update_student = True
        self._has_begun = False

    def start(self, host: Any, adapter: str) -> None:
        """Attach once the host's networks are there, the teacher as it was built or loaded."""
        if self.config is not None:
            logging.basicConfig(format="%(message)s")
            logger.setLevel(logging.INFO if is_main() else logging.WARNING)
            measure = get_adapter(adapter)().measure(host)
            if measure is None and self.config.record and self.config.record.auto:
                raise ConfigError(
                    "this script gives no measure, from which automatic recording decides: its "
                    "patches are of an earlier release. Apply them again (`disback HOST apply`), "
                    "or say what to record (--disback_record_iters, --disback_record_every)"
                )
            self.session = DisBack.attach(
                host, adapter=adapter, config=self.config, measure=measure
            )
            self._attached_to = host, adapter

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Resume the session of `state`: what no flag says is as it was saved, by any release."""
        assert self.config is not None
        config = as_saved(self.config, state, self._left_open)
        if config != self.config:
            self.config = config
            self.start(*self._attached_to)
        assert self.session is not None
        self.session.load_state_dict(state)

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


class CheckpointedOverlay(Overlay, ABC):
    """Of a host whose checkpoint is a folder, which the session's state joins.

    found: what lies in a folder saved on the way back, and what to do without `--disback`.
    """

    found: ClassVar[str]

    def save(self, folder: str) -> None:
        """Write the session's state into a checkpoint's folder, on rank 0, before the weights."""
        if self.session is not None:
            side_file.write(Path(folder), self.session)

    def load(self, folder: str) -> None:
        """Go on from a checkpoint's folder, on every rank, after the host loaded its own part."""
        saved = side_file.read(Path(folder))
        if self.session is None:
            # without the file nothing tells a node from the teacher: none is remembered here
            if saved is not None:
                saved.refuse_recording(folder)
            if saved is not None and saved.node != 0:
                found = self.found.format(node=saved.node)
                raise SessionError(f"{folder} was saved on the way back{found}")
        elif saved is not None:
            self.go_on(saved.state)
        elif self.session.active:
            self.start_from(folder, self.session)

    @abstractmethod
    def start_from(self, folder: str, session: DisBack) -> None:
        """Begin at a checkpoint that was made without `--disback`, or refuse it.

        What it changes waits for `session.before_path`: a run without a path is the host's own.
        """
