"""DisBack as one of FastGen's callbacks; importable where FastGen is.

trainer.callbacks: {disback: {_target_: disback_plugin.adapters.fastgen.callback.DisBackCallback,
    path: runs/path, record: {num_steps: 200, every: 50}, schedule: {name: fixed, interval: 1000}}}
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastgen.callbacks.callback import Callback

from disback_plugin.adapters.fastgen.teacher import let_nodes_answer
from disback_plugin.adapters.overlay.host_run import HostRun
from disback_plugin.config import DisBackConfig
from disback_plugin.config_base import parse_settings
from disback_plugin.session import DisBack

logger = logging.getLogger("disback")
NEVER = sys.maxsize  # as `student_update_freq`: no iteration is the student's turn


class DisBackCallback(Callback):  # FastGen sets `config` and `trainer` on it
    """One training run with DisBack (Algorithm 1); the arguments are those of `DisBackConfig`.

    Steps are FastGen's iterations that ran, of which every `student_update_freq`-th is the
    student's. Raises ConfigError for settings that cannot work, before anything is loaded.
    """

    def __init__(
        self,
        path: str | None = None,
        arm: str | None = None,
        record: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        codec: str | None = None,
    ) -> None:
        given = {"path": path, "arm": arm, "record": record, "schedule": schedule, "codec": codec}
        settings = {name: _plain(value) for name, value in given.items() if value is not None}
        self.settings = parse_settings(DisBackConfig, settings, "the disback callback")
        self._held: int | None = None  # the model's student_update_freq while the student is held
        self._step = self._gap = 0
        self._is_resumed = False

    def on_app_begin(self) -> None:  # before anything is loaded
        length = self.config.trainer.max_iter
        HostRun(length - 1, f"trainer.max_iter {length}").warn_if_short(self.settings)

    def on_optimizer_init_end(self, model: Any) -> None:  # before a checkpoint is loaded
        self.disback = DisBack.attach(model, adapter="fastgen", config=self.settings)
        let_nodes_answer(model, self.disback)

    def on_load_checkpoint_end(self, model: Any, iteration: int = 0) -> None:
        # a run's last checkpoint is labelled max_iter, an iteration that did not run: no step of it
        self._gap = iteration - self._step
        if iteration and self.disback.active and not self._is_resumed:
            self.disback.installation.load_fake_score(self.disback.installation.reference.tensors)
            logger.warning(
                "the checkpoint of iteration %d was made without DisBack: it starts here, with the "
                "student as the initial one, and the fake score is reset to the teacher (its "
                "optimizer state is not)",
                iteration,
            )

    def on_training_step_begin(self, model: Any, iteration: int = 0) -> None:
        self._step = iteration - self._gap
        self._hold(model, not self.disback.begin_step(self._step).update_student)

    def on_backward_begin(
        self,
        model: Any,
        data_batch: Any,
        output_batch: Any,
        loss_dict: dict[str, torch.Tensor],
        iteration: int = 0,
        accum_iter: int = 0,
    ) -> None:
        # what is in loss_dict now, all callbacks log at the step's end
        metrics = self.disback.metrics(self._step)
        loss_dict.update({name: torch.tensor(value) for name, value in metrics.items()})

    def on_training_step_end(
        self, model: Any, data_batch: Any, output_batch: Any, loss_dict: Any, iteration: int = 0
    ) -> None:
        self.disback.end_step(self._step)

    def on_train_end(self, model: Any, iteration: int = 0) -> None:
        self._hold(model, False)
        self.disback.close()

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "session": self.disback.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._step, self._is_resumed = state_dict["step"], True
        self.disback.load_state_dict(state_dict["session"])

    def _hold(self, model: Any, hold: bool) -> None:
        if hold and self._held is None:
            self._held, model.config.student_update_freq = model.config.student_update_freq, NEVER
        elif not hold and self._held is not None:
            model.config.student_update_freq, self._held = self._held, None


def _plain(value: Any) -> Any:
    """Dicts and lists for the configuration library's own kinds of them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
