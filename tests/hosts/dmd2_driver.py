"""Runs DMD2's own scripts, or the small host's, on tiny networks; notes what each step did.

    python -m tests.hosts.dmd2_driver JOBS.json

Only sizes are replaced (DMD2 fixes its networks' widths), FSDP is allowed on the CPU, and a data
folder is opened once; no other library call is touched: what does not start here does not start for
users. A job is a dict, see `run`; several run one after another.
"""

import argparse
import functools
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import lmdb
import torch
from torch import nn

from tests.hosts.digests import digest_tensors
from tests.hosts.dmd2_inputs import EDM_CHANNELS, UNET_CHANNELS, edm_config

SCRIPTS = {"sd": "main.train_sd", "edm": "main.edm.train_edm"}
FOREIGN = ("main", "third_party", "dnnlib", "torch_utils")


class KilledError(Exception):
    """Ends a job in the middle, as a kill would."""


class _TinyHead:
    """Stands in for `torch.nn` where a guidance module builds its classifier of fixed width."""

    Module, SiLU = nn.Module, nn.SiLU

    def __init__(self, channels: int, side: int) -> None:
        self._channels, self._side = channels, side

    def Conv2d(self, **_: Any) -> nn.Module:  # noqa: N802
        return nn.Identity()

    GroupNorm = Conv2d

    def Sequential(self, *_: nn.Module) -> nn.Module:  # noqa: N802
        layers = [nn.Conv2d(self._channels, self._channels, self._side), nn.SiLU()]
        return nn.Sequential(*layers, nn.Conv2d(self._channels, 1, 1))


def load_script(kind: str, checkout: str) -> Any:
    """Import a checkout's script afresh, with tiny networks."""
    for name in [name for name in sys.modules if name.split(".")[0] in FOREIGN]:
        del sys.modules[name]
    sys.path[:] = [checkout, *(path for path in sys.path if not Path(path, "dnnlib").is_dir())]
    os.chdir(checkout)
    script = importlib.import_module(SCRIPTS[kind])
    if hasattr(script, "SMALL_HOST"):
        return script
    if kind == "sd":
        importlib.import_module("main.sd_guidance").nn = _TinyHead(UNET_CHANNELS[-1], 4)
    else:
        importlib.import_module("main.edm.edm_network").get_imagenet_edm_config = edm_config
        importlib.import_module("main.edm.edm_guidance").nn = _TinyHead(2 * EDM_CHANNELS, 8)
    return script


class Probe:
    """Notes of one rank: a JSON line a step."""

    def __init__(self, script: Any, job: dict[str, Any], rank: int) -> None:
        self.script, self.job, self.file = script, job, Path(f"{job['notes']}.{rank}")
        self.losses: list[str] = []
        self.logged: dict[str, float] = {}
        self.line: dict[str, Any] = {}
        self._log = script.wandb.log
        step_of, probe = script.Trainer.train_one_step, self

        def train_one_step(trainer: Any) -> None:
            probe.before(trainer)
            step_of(trainer)
            probe.after(trainer)

        script.Trainer.train_one_step = train_one_step

    def watch(self, trainer: Any) -> None:
        """Read along what is backpropagated and what goes to W&B."""
        backward, log = trainer.accelerator.backward, self.script.wandb.log

        def noting_backward(loss: torch.Tensor, **kwargs: Any) -> None:
            self.losses.append(loss.item().hex())
            backward(loss, **kwargs)

        def noting_log(values: dict[str, Any], step: int | None = None) -> None:
            numbers = {
                name: value for name, value in values.items() if isinstance(value, int | float)
            }
            self.logged |= numbers
            log(values, step=step)

        trainer.accelerator.backward, self.script.wandb.log = noting_backward, noting_log

    def before(self, trainer: Any) -> None:
        if self.script.wandb.log.__name__ != "noting_log":
            self.watch(trainer)
        self.flush()
        if trainer.step == self.job.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if trainer.step == self.job.get("stop"):
            raise KilledError
        self.losses, self.logged = [], {}
        self.line = {"step": trainer.step}

    def after(self, trainer: Any) -> None:
        self.line |= {"losses": self.losses, "logged": self.logged}
        if self.job.get("digests", True):
            self.line |= _digests(trainer)
        self.line["generator_lr"] = trainer.scheduler_generator.get_last_lr()[0]

    def flush(self) -> None:
        """Write the last step's line: DMD2 logs a part after the step itself."""
        if self.line:
            self.logged.pop("per iteration time", None)
            with self.file.open("a") as stream:
                stream.write(json.dumps(self.line) + "\n")
        self.line = {}

    def close(self) -> None:
        self.flush()
        self.script.wandb.log = self._log


def _digests(trainer: Any) -> dict[str, str]:
    """Of the roles' whole weights; under FSDP gathered on rank 0, nothing elsewhere."""
    model = trainer.model
    guidance, generator = model.guidance_model, model.feedforward_model
    if trainer.accelerator.distributed_type == "FSDP":
        held, own = trainer.fsdp_state_dict(guidance), trainer.fsdp_state_dict(generator)
    else:
        held = trainer.accelerator.unwrap_model(guidance).state_dict()
        own = trainer.accelerator.unwrap_model(generator).state_dict()
    roles = {
        role: {
            name.removeprefix(prefix): value
            for name, value in held.items()
            if name.startswith(prefix)
        }
        for role, prefix in (("real", "real_unet."), ("fake", "fake_unet."))
    }
    return {name: digest_tensors(tensors) for name, tensors in (*roles.items(), ("generator", own))}


def open_data_once() -> None:
    """LMDB opens a folder once a process, and all runs here read the same."""
    lmdb.open = functools.cache(lmdb.open)


def allow_fsdp_on_cpu() -> None:
    """accelerate shards on GPUs only, torch everywhere: tell accelerate's state that it may."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    make = AcceleratorState.__init__

    def init(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        make(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin
            own = {"distributed_type": DistributedType.FSDP, "device": torch.device("cpu")}
            PartialState._shared_state.update(own)
            self._shared_state.update(own)

    AcceleratorState.__init__ = init


def _resumed(job: dict[str, Any]) -> list[str]:
    if "resume" not in job:
        return []
    flag, folder = job["resume"]
    newest = max(Path(folder).glob("time_*/checkpoint_model_*"), key=lambda found: found.name)
    return [flag, str(newest)]


def run(job: dict[str, Any]) -> None:
    """One training run. A job: script (sd, edm), checkout, args, notes; optional stop or kill (a
    step), digests (False: none), resume ([flag, folder]: its newest checkpoint).
    """
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    rank = int(os.environ.get("RANK", "0"))
    script = load_script(job["script"], job["checkout"])
    probe = Probe(script, job, rank)
    sys.argv = [SCRIPTS[job["script"]], *job["args"], *_resumed(job)]
    try:
        script.Trainer(script.parse_args()).train()
    except KilledError:
        pass
    finally:
        probe.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", type=Path)
    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        allow_fsdp_on_cpu()
    open_data_once()
    for job in json.loads(parser.parse_args().jobs.read_text()):
        run(job)


if __name__ == "__main__":
    main()
