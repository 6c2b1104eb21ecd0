"""Model Optimizer, always the real one: it is a package. Its loop is `loop.py`."""

from pathlib import Path
from typing import Any

import yaml

from tests.adapters.cases import Case
from tests.adapters.checks import AT, INTERVAL, RECORD
from tests.adapters.runs import ADAPTERS, Host, Job, Run, need

FOLDER = ADAPTERS / "modelopt"


class ModelOpt(Host):
    """The pipeline is attached to as it is; options are settings of its DMDConfig."""

    needs = ("modelopt", "diffusers")
    resumed_at = (3, 6)  # a checkpoint after every third step
    only_ours = ("logged",)

    @classmethod
    def tree(cls, real: bool) -> Path:
        need(*cls.needs)
        return FOLDER

    def job(self, case: Case, run: Run, folder: Path) -> Job:
        resume = str(folder / run.resume / "checkpoint") if run.resume else ""
        return {
            "settings": settings(case.options),
            "dtype": str(case.dtype).removeprefix("torch."),
            "sharded": case.shard_from > 0,
            "disback": self._disback(run, folder),
            "path": str(folder / run.path) if run.path else "",
            "num_steps": run.num_steps,
            "checkpoint": str(folder / run.name / "checkpoint"),
            "resume": resume,
        }

    @staticmethod
    def _disback(run: Run, folder: Path) -> dict[str, Any] | None:
        if not run.path:
            return {"arm": "fixed"} if run.name == "off" else None
        config: dict[str, Any] = {"path": str(folder / run.path)}
        if not run.reuse:
            config["record"] = {"num_steps": RECORD, "at": list(AT)}
        return {**config, "schedule": {"name": "fixed", "interval": INTERVAL}}


def settings(options: str) -> dict[str, Any]:
    """`a=1.0 b=true` as values."""
    words = (word.partition("=") for word in options.split())
    return {name: yaml.safe_load(value) for name, _, value in words}
