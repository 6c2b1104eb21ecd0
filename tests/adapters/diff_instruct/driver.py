"""Runs Diff-Instruct's script, or the small host's, on a tiny network; notes what each step did.

The data are read in the process itself unless a job asks for workers; the network is made smaller.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from disback_plugin.adapters import overlay
from tests.adapters.diff_instruct.inputs import make_teacher
from tests.adapters.digests import digest_tensors
from tests.adapters.driver import Job, Notebook, preload

FOREIGN = ("di_train", "training", "torch_utils", "dnnlib", "metrics")
DDP = nn.parallel.DistributedDataParallel
LOADER = torch.utils.data.DataLoader
PRELOADED = (
    *("click", "psutil", "requests"),
    "disback_plugin.adapters.diff_instruct.overlay",
    "disback_plugin.adapters.diff_instruct.teacher",
)
BEGIN_STEP = overlay.Overlay.begin_step
SET_START_METHOD = torch.multiprocessing.set_start_method


class Probe(Notebook):
    """Notes of one rank: losses as hex, digests of the roles' weights.

    Losses are the fake score's and the student's, each joined over its accumulated rounds. `real`
    is taken in the step, `fake` and `generator` after it.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.step, self.line, self.run = -1, {}, None  # type: ignore[var-annotated]
        self.net: nn.Module | None = None
        self.losses: dict[str, list[str]] = {"fake": [], "student": []}
        self.between_steps = True  # until the next loss of the fake score
        self.trained: list[nn.Module] = []  # fake score, then generator; so are the optimizers
        self.optimizers: list[torch.optim.Optimizer] = []

    def begin_step(self, run: overlay.Overlay, step: int) -> None:
        """What the patched loop calls: it knows the step's number, also after a resume."""
        BEGIN_STEP(run, step)
        self.run, self.step = run, step - 1  # counted up below, patched or not

    def before(self) -> None:
        if not self.between_steps:
            return
        self.flush()
        self.between_steps = False
        self.step += 1
        self.die_at(self.step)
        assert self.net is not None
        real = digest_tensors(self.net.state_dict())
        self.line = {"step": self.step, "real": real, "logged": {}}

    def after(self, *_: Any) -> None:
        self.between_steps = True

    def note(self, kind: str, loss: torch.Tensor) -> torch.Tensor:
        self.losses[kind].append(loss.detach().sum().item().hex())
        return loss

    def flush(self) -> None:
        if self.line:
            fake, generator = self.trained
            self.line["losses"] = [" ".join(own) for own in self.losses.values() if own]
            self.losses = {kind: [] for kind in self.losses}
            self.line["fake"] = digest_tensors(fake.state_dict())
            self.line["generator"] = digest_tensors(generator.state_dict())
            self.line["generator_lr"] = self.optimizers[1].param_groups[0]["lr"]
            self.write(self.line)
        self.line = {}


class WatchedLoss:
    """The host's loss object, its two losses noted. The first begins a step."""

    def __init__(self, loss: Any, probe: Probe) -> None:
        self.loss, self.probe = loss, probe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)

    def __call__(self, **arguments: Any) -> torch.Tensor:
        self.probe.before()
        return self.probe.note("fake", self.loss(**arguments))

    def gloss(self, **arguments: Any) -> torch.Tensor:
        if self.probe.step == self.probe.job.get("install_fake_score"):
            assert self.probe.run is not None
            assert self.probe.run.session is not None
            fake = {name: value.clone() for name, value in arguments["Sg"].state_dict().items()}
            self.probe.run.session.installation.install(1, fake)
        return self.probe.note("student", self.loss.gloss(**arguments))


def watch(probe: Probe, job: Job) -> Any:
    """Import the checkout's script afresh, its objects noted as they are made."""
    for name in [name for name in sys.modules if name.split(".")[0] in FOREIGN]:
        del sys.modules[name]
    sys.path[:] = [
        job["checkout"],
        *(path for path in sys.path if not Path(path, "dnnlib").is_dir()),
    ]
    util = importlib.import_module("dnnlib.util")
    construct = util.construct_class_by_name

    def noting_construct(*args: Any, **kwargs: Any) -> Any:
        if kwargs["class_name"] == "training.networks.EDMPrecond":
            kwargs["num_blocks"] = 1
        made = construct(*args, **kwargs)
        if isinstance(made, nn.Module):
            probe.net = made
        if isinstance(made, torch.optim.Optimizer):
            probe.optimizers.append(made)
            if len(probe.optimizers) == 1:
                made.register_step_post_hook(probe.after)
        return WatchedLoss(made, probe) if hasattr(made, "gloss") else made

    class NotingDDP(DDP):
        def __init__(self, module: nn.Module, *args: Any, **kwargs: Any) -> None:
            probe.trained.append(module)
            super().__init__(module, *args, **kwargs)

    def loader(*args: Any, **kwargs: Any) -> Any:
        own = {} if job.get("workers") else {"num_workers": 0, "prefetch_factor": None}
        return LOADER(*args, **{**kwargs, **own})

    util.construct_class_by_name = noting_construct
    nn.parallel.DistributedDataParallel = NotingDDP  # type: ignore[misc]
    torch.utils.data.DataLoader = loader  # type: ignore[assignment, misc]
    overlay.Overlay.begin_step = lambda run, step: probe.begin_step(run, step)  # type: ignore
    torch.multiprocessing.set_start_method = lambda method: SET_START_METHOD(method, force=True)
    return importlib.import_module("di_train")


def prepare(job: Job) -> None:
    """What all jobs import; each imports its checkout."""
    preload(*PRELOADED)


def run(job: Job) -> None:
    """One training run. A job: checkout, teacher (made if it is not there), args; optional
    install_fake_score (a step: the fake score's weights as real score), workers.
    """
    probe = Probe(job)
    script = watch(probe, job)
    if not Path(job["teacher"]).exists():
        make_teacher(Path(job["teacher"]))
    script.main(job["args"], standalone_mode=False)
    probe.flush()
    torch.distributed.destroy_process_group()
