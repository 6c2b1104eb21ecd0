"""A FastGen callback that notes each step: losses, weights, which network was asked what."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fastgen.callbacks.callback import Callback
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from disback_plugin.adapters.fastgen.callback import DisBackCallback
from disback_plugin.adapters.fastgen.teacher import let_nodes_answer
from tests.adapters.digests import digest_tensors
from tests.adapters.driver import Notebook


class Twin:
    """In a session's place: a copy of the teacher answers."""

    def __init__(self, teacher: nn.Module) -> None:
        self.network = copy.deepcopy(teacher)

    @contextmanager
    def real_score(self) -> Iterator[nn.Module]:
        yield self.network


class Probe(Callback):
    """A line an iteration. kill: before which one; twin: a copy of the teacher answers."""

    def __init__(self, notes: str, kill: int = 0, twin: bool = False) -> None:
        self.notebook = Notebook({"notes": notes, "kill": kill})
        self.last_page = Notebook({"notes": f"{notes}.end"})
        self.twin = twin
        self.calls: list[tuple[str, str]] = []
        self.answers: list[tuple[Any, str]] = []
        self.session: DisBackCallback | None = None

    def on_train_begin(self, model: Any, iteration: int = 0) -> None:
        if self.twin:
            let_nodes_answer(model, Twin(model.teacher))  # type: ignore[arg-type]
        others = self.trainer.callbacks._callbacks.values()
        self.session = next((one for one in others if isinstance(one, DisBackCallback)), None)

        def called(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if module is model.teacher:
                self.teacher_called(module, args, kwargs, output)
            elif type(module) is type(model.teacher) and not self.is_trained(module, model):
                self.answers.append((output, digest_tensors(module.state_dict())))

        self.hook = register_module_forward_hook(called, with_kwargs=True)

    @staticmethod
    def is_trained(module: nn.Module, model: Any) -> bool:
        return module is model.net or module is model.fake_score

    def teacher_called(self, teacher: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Whose x0 and whose features the method was given for its call of the teacher."""
        own, early = digest_tensors(teacher.state_dict()), kwargs.get("return_features_early")
        if not early:
            x0 = output[0] if kwargs.get("feature_indices") else output
            givers = [who for answer, who in self.answers if answer is x0]
            self.calls.append(("x0", givers[0] if givers else own))
        if kwargs.get("feature_indices"):
            with torch.no_grad():
                plain = type(teacher).forward(teacher, *args, **kwargs)
            given, expected = (output, plain) if early else (output[1], plain[1])
            same = all(map(torch.equal, given, expected)) and len(given) == len(expected) > 0
            self.calls.append(("features", own if same else "others"))

    def on_training_step_begin(self, model: Any, iteration: int = 0) -> None:
        self.notebook.die_at(iteration)
        self.calls, self.answers = [], []

    def on_training_step_end(
        self, model: Any, data_batch: Any, output_batch: Any, loss_dict: Any, iteration: int = 0
    ) -> None:
        values = {name: value.item() for name, value in sorted(loss_dict.items())}
        real, step = model.teacher, iteration
        if self.session is not None:
            step = self.session.state_dict()["step"]
            with self.session.disback.installation.evaluate() as real:
                pass
        line = {
            "step": step - 1,
            "iteration": iteration,
            "losses": [
                "+".join(value.hex() for name, value in values.items() if "disback" not in name)
            ],
            "logged": {name: value for name, value in values.items() if "disback" in name},
            "student_turn": "gan_loss_gen" in loss_dict,
            "calls": self.calls,
            "teacher": digest_tensors(model.teacher.state_dict()),
            "real": digest_tensors(real.state_dict()),
            "fake": digest_tensors(model.fake_score.state_dict()),
            "generator": digest_tensors(model.net.state_dict()),
            "generator_lr": model.net_optimizer.param_groups[0]["lr"],
        }
        self.notebook.write(line)

    def on_train_end(self, model: Any, iteration: int = 0) -> None:
        self.hook.remove()
        self.last_page.write({"freq_at_end": model.config.student_update_freq})
