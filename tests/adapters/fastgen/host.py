"""FastGen, or the small host: its overrides, and the runs that only it has."""

from pathlib import Path
from typing import Any

from tests.adapters.cases import Case
from tests.adapters.checks import AT, INTERVAL, RECORD
from tests.adapters.launching import ROOT
from tests.adapters.runs import ADAPTERS, Host, Job, Run

CALLBACK = "disback_plugin.adapters.fastgen.callback.DisBackCallback"
PROBE = "tests.adapters.fastgen.probe.Probe"
FOLDER = ADAPTERS / "fastgen"
SMALL_HOST = FOLDER / "small"
STUDENT_FREQ = 2


class FastGen(Host):
    """No file of it is patched: DisBack is a callback, off where its arm is `fixed`.

    A resume draws its random numbers anew, with or without DisBack.
    """

    upstream, landmark = "FastGen", "fastgen/callbacks/callback.py"
    setting = "method"
    real_needs = (
        *("attrs", "av", "boto3", "diffusers", "einops", "ftfy", "hydra", "imageio", "loguru"),
        *("pandas", "psutil", "scipy", "timm", "torchvision", "transformers", "wandb"),
        "webdataset",
    )
    small = SMALL_HOST
    kills, resumed_at = (5, 9), (3, 6)  # iterations; a checkpoint every third
    resumes_exactly = False
    unchanged, only_ours = ("off", "twin"), ("logged",)  # twin: a copy of the teacher answers

    def plan(self, case: Case) -> list[Run]:
        runs = [*super().plan(case), Run("twin")]
        if not case.brief and case.num_processes == 1:
            runs += [Run("short", "short-path")]  # node 3 is due after step 5
            runs += [Run("longer", "short-path", 12, resume="short")]
        return runs

    def job(self, case: Case, run: Run, folder: Path) -> Job:
        notes = folder / run.name / "notes"
        probe = {"_target_": PROBE, "notes": notes, "twin": run.name == "twin"}
        callbacks = [f"+trainer.callbacks.probe={_braces(probe | {'kill': run.kill or 0})}"]
        if run.path or run.name == "off":  # first: at a run's end the probe sees what it left
            settings = {"_target_": CALLBACK, **self._settings(run, folder)}
            callbacks.insert(0, f"+trainer.callbacks.disback={_braces(settings)}")
        own = run.name if run.reuse or not run.path else run.path  # shared with those that resume
        every = [
            f"trainer.max_iter={run.num_steps + 1}",
            "trainer.save_ckpt_iter=3",
            f"trainer.ddp={case.num_processes > 1 and not case.shard_from}",
            f"log_config.name=run-{own}",  # `off` alone would be a truth value
        ]
        config = SMALL_HOST / "tiny_config.py"
        if self.is_real:  # as a module, so from where it is launched
            config = (FOLDER / "real_config.py").relative_to(ROOT)
        return {
            "checkout": str(self.source),
            "is_real": self.is_real,
            "config": str(config),
            "method": case.kind or "dmd2",
            "root": str(folder / "root"),
            "opts": [*every, *case.options.split(), *callbacks],
        }

    @staticmethod
    def _settings(run: Run, folder: Path) -> dict[str, Any]:
        """The callback's arguments."""
        if not run.path:
            return {"arm": "fixed"}
        settings: dict[str, Any] = {"path": folder / run.path}
        if not run.reuse:
            settings["record"] = {"num_steps": RECORD, "at": list(AT)}
        return {**settings, "schedule": {"name": "fixed", "interval": INTERVAL}}


def _braces(value: Any) -> str:
    """As one writes it on a command line: no quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_braces(item)}" for key, item in value.items()) + "}"
    return str(value)
