"""Progress over several runs at a time: one bar of all steps."""

import sys
from typing import Any

from disback_plugin.lab.config.experiment import ExperimentConfig


class Overview:
    """Sums the steps of all runs; where there is no terminal, a line a finished run."""

    def __init__(self, config: ExperimentConfig, num_runs: int) -> None:
        self._steps: dict[str, int] = {}
        self._bar = None
        if config.logging.progress and sys.stderr.isatty():
            from tqdm import tqdm

            total = num_runs * config.distill.num_steps
            self._bar = tqdm(total=total, desc=config.name, unit="step", leave=False)

    def step(self, name: str, message: dict[str, Any]) -> None:
        """A worker's message: run `name` has done `message["step"]` steps."""
        self._steps[name] = message["step"]
        if self._bar is not None:
            self._bar.set_postfix_str(f"{name} {message.get('numbers', '')}", refresh=False)
            self._bar.update(sum(self._steps.values()) - self._bar.n)

    def done(self, name: str) -> None:
        """Run `name` has come to its end; without a bar, one line says so."""
        if self._bar is None:
            print(f"{name}: done", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
