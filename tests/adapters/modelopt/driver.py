"""Trains with Model Optimizer's pipeline, and notes each step: whose answers, whose features."""

import os
from pathlib import Path
from typing import Any

import modelopt.torch.fastgen as mtf
import torch
from modelopt.torch.fastgen.methods import dmd
from torch import Tensor, distributed, nn

from disback_plugin import DegradationPath, DisBack, DisBackConfig
from tests.adapters.digests import digest_tensors
from tests.adapters.driver import Job, Notebook
from tests.adapters.modelopt.loop import Loop, capture, make_teacher
from tests.adapters.modelopt.sharding import whole

ASKED = ("hidden_states", "timestep", "encoder_hidden_states")
SAVE_EVERY = 3
VSD_LOSS = dmd.vsd_loss


class Probe(Notebook):
    """A line a step. Every answer is computed again, by a network of its own."""

    def __init__(self, job: Job, loop: Loop) -> None:
        super().__init__(job)
        self.loop, self.pipeline = loop, loop.pipeline
        self.teacher = _copy(whole(loop.networks["teacher"].state_dict()))
        self.asked: list[dict[str, Any]] = []  # of the teacher, in this step
        self.given: list[Tensor] = []  # x0 to the student's loss
        self.features: list[list[Tensor]] = []  # to the discriminator
        self.call_model = self.pipeline._call_model
        self.pipeline._call_model = self._called
        dmd.vsd_loss = self._vsd_loss
        if self.pipeline.discriminator is not None:
            self.pipeline.discriminator.register_forward_pre_hook(
                lambda _, args: self.features.append(args[0])
            )

    def _called(self, model: nn.Module, *args: Tensor, **kwargs: Tensor) -> Tensor:
        if model is self.pipeline.teacher:
            asked = dict(zip(ASKED, args, strict=False)) | kwargs
            self.asked.append({name: value.detach().clone() for name, value in asked.items()})
        return self.call_model(model, *args, **kwargs)

    def _vsd_loss(self, x0: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        self.given.append(real)
        return VSD_LOSS(x0, real, fake)

    @torch.no_grad()
    def answer_of(self, network: nn.Module) -> Tensor:
        """What it would have given to the student's loss of this step."""
        x0, *negative = (
            mtf.DMDPipeline._predict_x0(self.pipeline, network, **asked) for asked in self.asked
        )
        scale = self.pipeline.config.guidance_scale
        return x0 + (scale - 1) * (x0 - negative[0]) if negative else x0

    def who_answered(self) -> str:
        """Digest of the teacher, or of the node on disk, that gives the same answer."""
        networks = [self.teacher]
        if self.job["path"]:
            path = DegradationPath.open(Path(self.job["path"]))
            networks += [_copy(path.read(entry.index)) for entry in path]
        (given,) = self.given
        same = [own for own in networks if torch.equal(self.answer_of(own), given)]
        return digest_tensors(same[0].state_dict()) if len(same) == 1 else f"{len(same)} networks"

    def features_are_the_teachers(self) -> bool:
        """Each bit for bit what the teacher's hooks leave for one of its calls, and all of it."""
        own = self.teacher
        capture(own)
        for asked in self.asked:
            with torch.no_grad():
                self.call_model(own, **asked)
        expected = list(own._fastgen_captured)
        return len(self.features) > 0 and all(
            len(given) == 1 and any(torch.equal(given[0], feature) for feature in expected)
            for given in self.features
        )

    def step(self, step: int, disback: DisBack | None) -> None:
        self.die_at(step)
        self.asked, self.given, self.features = [], [], []
        losses = self.loop.step(step, disback)
        real = self.loop.networks["teacher"]
        if disback:
            with disback.installation.evaluate() as real:
                pass
        digests = {
            name: digest_tensors(whole(own.state_dict()))
            for name, own in self.loop.networks.items()
        }
        line = {
            "step": step,
            "losses": ["+".join(loss.hex() for loss in losses)],
            "logged": disback.metrics(step) if disback else {},
            "answered": self.who_answered() if self.given else None,
            "features": self.features_are_the_teachers() if self.features else None,
            "with_gradient": [given[0].requires_grad for given in self.features],
            "teacher": digests["teacher"],
            "real": digest_tensors(whole(real.state_dict())),
            "fake": digests["fake_score"],
            "generator": digests["student"],
            "generator_lr": self.loop.optimizers[0].param_groups[0]["lr"],
            "ema": digest_tensors(whole(self.pipeline.ema.state_dict())),
        }
        self.write(line)


def _copy(tensors: dict[str, Tensor]) -> nn.Module:
    with torch.random.fork_rng():
        network = make_teacher().eval()
    network.to(next(iter(tensors.values())).dtype).load_state_dict(tensors)
    return network


def prepare(job: Job) -> None:
    """All is imported above."""


def run(job: Job) -> None:
    """One training run. A job: settings (of DMDConfig), dtype, sharded, disback (of
    DisBackConfig, or None), path, num_steps, checkpoint (where this run saves),
    resume (where another did).
    """
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    loop = Loop(job["settings"], getattr(torch, job["dtype"]), job["sharded"])
    probe, disback, first = Probe(job, loop), None, 0
    if job["disback"] is not None:
        config = DisBackConfig.model_validate(job["disback"])
        disback = DisBack.attach(loop.pipeline, adapter="modelopt", config=config)
    rank = os.environ.get("RANK", "0")
    if job["resume"]:
        state = torch.load(f"{job['resume']}.{rank}", weights_only=True)
        loop.load_state_dict(state["loop"])
        first = state["step"] + 1
        if disback:
            disback.load_state_dict(state["disback"])
    for step in range(first, job["num_steps"]):
        probe.step(step, disback)
        if (step + 1) % SAVE_EVERY == 0:
            own = disback.state_dict() if disback else None
            state = {"step": step, "loop": loop.state_dict(), "disback": own}
            torch.save(state, f"{job['checkpoint']}.{rank}")
    if disback:
        disback.close()
    if distributed.is_initialized():
        distributed.destroy_process_group()
