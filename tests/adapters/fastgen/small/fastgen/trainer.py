"""The loop: hooks in FastGen's order, checkpoints, a resume that draws its random numbers anew."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from fastgen.callbacks.callback import CallbackDict
from fastgen.methods import NUM_LABELS, SIZE


def make_data() -> dict[str, Tensor]:
    """A batch from the global generator."""
    labels = torch.randint(NUM_LABELS, (4,))
    return {
        "real": torch.randn(4, SIZE),
        "condition": torch.nn.functional.one_hot(labels, NUM_LABELS).float(),
    }


class Trainer:
    """Iterations 1 .. max_iter - 1; the last checkpoint is labelled max_iter."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.callbacks = CallbackDict(config, self)
        self.folder = Path(config.log_config.save_path) / config.log_config.name / "checkpoints"

    def run(self, model: Any) -> None:
        wrapped = self.prepare(model)
        start = self.load(model)
        self.callbacks.on_load_checkpoint_end(model, iteration=start)
        torch.manual_seed(start + int(os.environ.get("RANK", "0")))
        self.callbacks.on_train_begin(model, iteration=start)
        for iteration in range(start + 1, self.config.trainer.max_iter):
            self.train_step(wrapped, model, iteration)
            if iteration % self.config.trainer.save_ckpt_iter == 0:
                self.save(model, iteration)
        self.save(model, self.config.trainer.max_iter)
        self.callbacks.on_train_end(model, iteration=self.config.trainer.max_iter)

    def prepare(self, model: Any) -> Any:
        """The model as it is called; its optimizers."""
        wrapped = model
        if self.config.trainer.ddp:
            wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        self.callbacks.on_model_init_end(wrapped)
        model.init_optimizers()
        self.callbacks.on_optimizer_init_end(model)
        return wrapped

    def train_step(self, wrapped: Any, model: Any, iteration: int) -> dict[str, Tensor]:
        self.callbacks.on_training_step_begin(model, iteration=iteration)
        data = make_data()
        losses = wrapped(data, iteration)
        self.callbacks.on_backward_begin(model, data, {}, losses, iteration=iteration, accum_iter=0)
        losses["total_loss"].backward()
        for optimizer in model.get_optimizers(iteration):
            optimizer.step()
            optimizer.zero_grad()
        losses = {name: value.detach() for name, value in losses.items()}
        self.callbacks.on_training_step_end(
            model=model, data_batch=data, output_batch={}, loss_dict=losses, iteration=iteration
        )
        return losses

    def save(self, model: Any, iteration: int) -> None:
        state = {
            "model": {name: role.state_dict() for name, role in model.model_dict.items()},
            "optimizers": [optimizer.state_dict() for optimizer in model.optimizers],
            "callbacks": self.callbacks.state_dict(),
            "iteration": iteration,
        }
        if os.environ.get("RANK", "0") == "0":
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save(state, self.folder / f"{iteration:07d}.pth")
        if distributed.is_initialized():
            distributed.barrier()

    def load(self, model: Any) -> int:
        newest = max(self.folder.glob("*.pth"), default=None)
        if newest is None:
            return 0
        state = torch.load(newest, weights_only=True)
        for name, role in model.model_dict.items():
            role.load_state_dict(state["model"][name])
        for optimizer, own in zip(model.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self.callbacks.load_state_dict(state["callbacks"])
        return state["iteration"]
