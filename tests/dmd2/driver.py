"""The driver of hosts, noting each call of `wandb.log` by itself; can be killed inside a save.

python -m tests.dmd2.driver JOBS.json; a job may have `kill_in_save`, a step: SIGKILL once
accelerate has written that step's weights, before anything that follows in the host's save.
"""

import os
import signal
from typing import Any

from tests.hosts import dmd2_driver


class CallsProbe(dmd2_driver.Probe):
    """Adds `calls` to a step's line: per call its numbers, its names, how many pictures it has."""

    calls: list[dict[str, Any]]

    def watch(self, trainer: Any) -> None:
        super().watch(trainer)
        log, picture = self.script.wandb.log, self.script.wandb.Image

        def noting_log(values: dict[str, Any], step: int | None = None) -> None:
            self.calls.append(
                {
                    "names": sorted(values),
                    "pictures": sum(isinstance(value, picture) for value in values.values()),
                    "disback": {
                        name: value for name, value in values.items() if name.startswith("disback/")
                    },
                }
            )
            log(values, step=step)

        self.script.wandb.log = noting_log

    def before(self, trainer: Any) -> None:
        super().before(trainer)
        self.calls = []
        if trainer.step == self.job.get("kill_in_save"):
            save_state = trainer.accelerator.save_state

            def killed(*args: Any, **kwargs: Any) -> None:
                save_state(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)

            trainer.accelerator.save_state = killed

    def after(self, trainer: Any) -> None:
        super().after(trainer)
        self.line["calls"] = self.calls  # DMD2 logs once more before the line is written


if __name__ == "__main__":
    dmd2_driver.Probe = CallsProbe  # type: ignore[misc]
    dmd2_driver.main()
