"""Runs DMD2's own scripts, or the small host's, on tiny networks; notes what each step did.

Only sizes are replaced (DMD2 fixes its networks' widths), and FSDP is allowed on the CPU.
"""

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.adapters.digests import digest_tensors
from tests.adapters.dmd2.inputs import EDM_CHANNELS, UNET_CHANNELS, edm_config
from tests.adapters.dmd2.measured import both_ways
from tests.adapters.driver import Job, Notebook, preload

SCRIPTS = {"sd": "main.train_sd", "edm": "main.edm.train_edm"}
PRELOADED = (
    "disback_plugin.adapters.dmd2.overlay",
    "disback_plugin.adapters.dmd2.exact_resume",
    "disback_plugin.adapters.dmd2.sharded_resume",
)
FOREIGN = ("main", "third_party", "dnnlib", "torch_utils")


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


class Probe(Notebook):
    """Adds `calls`: of each call of `wandb.log` by itself its names, pictures and our numbers."""

    def __init__(self, script: Any, job: Job) -> None:
        super().__init__(job)
        self.script = script
        self.losses: list[str] = []
        self.logged: dict[str, float] = {}
        self.calls: list[dict[str, Any]] = []
        self.line: dict[str, Any] = {}
        self.is_watching = False
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
            self.logged |= {
                k: value for k, value in values.items() if isinstance(value, int | float)
            }
            pictures = [isinstance(value, self.script.wandb.Image) for value in values.values()]
            ours = {name: value for name, value in values.items() if name.startswith("disback/")}
            call = {"names": sorted(values), "pictures": sum(pictures), "disback": ours}
            self.calls.append(call)
            log(values, step=step)

        trainer.accelerator.backward, self.script.wandb.log = noting_backward, noting_log

    def before(self, trainer: Any) -> None:
        if not self.is_watching:
            self.watch(trainer)
        self.is_watching = True
        self.flush()
        self.die_at(trainer.step)
        if trainer.step == self.job.get("kill_in_save"):
            self.die_in_save(trainer.accelerator)
        self.losses, self.logged, self.calls = [], {}, []
        self.line = {"step": trainer.step}

    @staticmethod
    def die_in_save(accelerator: Any) -> None:
        """SIGKILL once the step's weights are written, before what follows in the host's save."""
        save_state = accelerator.save_state

        def killed(*args: Any, **kwargs: Any) -> None:
            save_state(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        accelerator.save_state = killed

    def after(self, trainer: Any) -> None:
        # by reference: DMD2 logs once more before the line is written
        self.line |= {"losses": self.losses, "logged": self.logged, "calls": self.calls}
        self.line |= _digests(trainer)
        self.line["generator_lr"] = trainer.scheduler_generator.get_last_lr()[0]

    def flush(self) -> None:
        """Write the last step's line."""
        if self.line:
            self.logged.pop("per iteration time", None)
            self.write(self.line)
        self.line = {}


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


def _resumed(job: Job) -> list[str]:
    if "resume" not in job:
        return []
    flag, folder = job["resume"]
    newest = max(Path(folder).glob("time_*/checkpoint_model_*"), key=lambda found: found.name)
    return [flag, str(newest)]


def prepare(job: Job) -> None:
    """What all jobs import, and what a launch with FSDP replaces."""
    preload(*PRELOADED)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        allow_fsdp_on_cpu()


def run(job: Job) -> None:
    """One training run. A job: script (sd, edm), checkout, is_real, args; optional resume ([flag,
    folder]: its newest checkpoint), kill_in_save (a step, once its weights are written), measured
    (no training: what the plugin measures, and the same by DMD2's own functions).
    """
    script = load_script(job["script"], job["checkout"])
    probe = Probe(script, job)
    sys.argv = [SCRIPTS[job["script"]], *job["args"], *_resumed(job)]
    trainer = script.Trainer(script.parse_args())
    if job.get("measured"):
        probe.write(both_ways(trainer))
        return
    trainer.train()
    probe.flush()
