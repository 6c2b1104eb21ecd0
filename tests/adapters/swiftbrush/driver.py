"""Runs SwiftBrush's own script, or the small host's; notes what each optimizer step did.

No library call is replaced, they are only read along.
"""

import runpy
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.adapters.digests import digest_tensors
from tests.adapters.driver import Job, Notebook, preload

TRAINED = "default"
PRELOADED = (
    "disback_plugin.adapters.swiftbrush.checkpoints",
    "disback_plugin.adapters.swiftbrush.overlay",
    "disback_plugin.adapters.swiftbrush.resume",
    "disback_plugin.real_score.lora",
)


def adapter_tensors(model: nn.Module, adapter: str) -> dict[str, Tensor]:
    """A and B of every layer of one adapter."""
    return {
        f"{name}.{kind}.weight": getattr(layer, kind)[adapter].weight
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
        for kind in ("lora_A", "lora_B")
    }


def base_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All that is saved but the adapters."""
    return {name: value for name, value in model.state_dict().items() if ".lora_" not in name}


def answering(model: nn.Module) -> str:
    """Digest of the adapter that answers now, or of the base where none does."""
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    names = {name for layer in layers for name in layer.active_adapters}
    disabled = {layer.disable_adapters for layer in layers}
    assert len(disabled) == 1
    if disabled.pop():
        return digest_tensors(base_tensors(model))
    (name,) = names
    return digest_tensors(adapter_tensors(model, name))


class Probe(Notebook):
    """Notes of one rank: a line an optimizer step; the real score's calls as tensors."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.tensors_file = Path(f"{self.file}.safetensors")
        self.losses: dict[str, list[str]] = defaultdict(list)
        self.real: set[str] = set()
        self.calls: list[dict[str, Tensor]] = []
        self.tensors: dict[str, Tensor] = {}
        self.num_calls = self.num_ema_steps = 0

    def watch(self, prepared: tuple[Any, ...]) -> None:
        """The networks and optimizers as the script has prepared them."""
        self.unet, self.teacher_lora = (getattr(m, "module", m) for m in prepared[:2])
        self.optimizer, self.optimizer_lora = prepared[2:4]
        self.teacher_lora.register_forward_hook(self.called, with_kwargs=True)

    def called(self, model: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """In a (micro-)step: real score twice, fake score twice, fake score with gradients."""
        if not model.training:  # the measure asks, between steps
            return
        if torch.is_grad_enabled():
            self.num_calls = 0
            return
        self.num_calls += 1
        if self.num_calls <= 2:
            self.real.add(answering(model))
            names = ("sample", "timestep", "embeds", "output")
            call = dict(zip(names, (*args, output.sample), strict=True))
            self.calls.append({name: value.detach().clone() for name, value in call.items()})

    def backpropagated(self, loss: Tensor) -> None:
        self.losses["student" if self.num_calls else "fake"].append(loss.item().hex())

    def end(self, values: dict[str, Any], step: int) -> None:
        """What the script logs last of a step, before it saves."""
        self.die_at(step)
        (real,) = self.real
        model = self.teacher_lora
        line = {
            "step": step - 1,
            "losses": ["+".join(self.losses[kind]) for kind in sorted(self.losses)],
            "logged": values,
            "real": real,
            "fake": digest_tensors(adapter_tensors(model, TRAINED)),
            "base": digest_tensors(base_tensors(model)),
            "generator": digest_tensors(self.unet.state_dict()),
            "generator_lr": self.optimizer.param_groups[0]["lr"],
            "ema_steps": self.num_ema_steps,
            "student_moments": len(self.optimizer.state),
            "trained": [name for name, value in model.named_parameters() if value.requires_grad],
            "saved": sorted(model.state_dict()),
            "optimized": self._optimized(),
        }
        self.write(line)
        for number, call in enumerate(self.calls):
            self.tensors |= {f"{step - 1}/{number}/{name}": call[name] for name in call}
        self.calls, self.real, self.losses = [], set(), defaultdict(list)

    def _optimized(self) -> list[int]:
        """Of the LoRA's optimizer: how many tensors it has, moves, and of which size."""
        (group,) = self.optimizer_lora.param_groups
        assert [id(value) for value in group["params"]] == [
            id(value) for value in self.teacher_lora.parameters()
        ]
        state = self.optimizer_lora.state
        return [len(group["params"]), len(state), sum(value.numel() for value in state)]


def prepare(job: Job) -> None:
    """What all jobs import."""
    preload(*PRELOADED)


def run(job: Job) -> None:
    """One training run. A job: checkout, args; it is killed at a global_step."""
    probe = Probe(job)
    prepare, backward, log = Accelerator.prepare, Accelerator.backward, Accelerator.log
    ema_step = EMAModel.step

    def noting_prepare(self: Accelerator, *args: Any, **kwargs: Any) -> Any:
        prepared = prepare(self, *args, **kwargs)
        if len(args) > 1:
            probe.watch(prepared)
        return prepared

    def noting_backward(self: Accelerator, loss: Tensor, **kwargs: Any) -> None:
        probe.backpropagated(loss)
        backward(self, loss, **kwargs)

    def noting_log(self: Accelerator, values: dict[str, Any], step: int) -> None:
        probe.end(values, step)
        log(self, values, step=step)

    def noting_ema_step(self: EMAModel, parameters: Any) -> None:
        ema_step(self, parameters)
        probe.num_ema_steps = self.optimization_step

    Accelerator.prepare, Accelerator.backward = noting_prepare, noting_backward
    Accelerator.log, EMAModel.step = noting_log, noting_ema_step
    script = Path(job["checkout"]) / "train_swiftbrush.py"
    sys.argv = [str(script), *job["args"]]
    runpy.run_path(str(script), run_name="__main__")
    save_file(probe.tensors, probe.tensors_file)
