"""FastGen's teacher is the real score and gives features: nodes answer for the first use alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from disback_plugin.session import DisBack


@contextmanager
def answering(teacher: nn.Module, network: nn.Module) -> Iterator[None]:
    """Within it `teacher(...)` gives `network`'s prediction, but the teacher's own features.

    For FastGen's networks: asked for `feature_indices`, they give `[prediction, features]`.
    """
    plain, own = teacher.forward, vars(teacher).get("forward")

    def forward(*args: Any, feature_indices: Any = None, **asked: Any) -> Any:
        if asked.get("return_features_early"):
            return plain(*args, feature_indices=feature_indices, **asked)
        with torch.no_grad():
            prediction = network(*args, **asked)
        if not feature_indices:
            return prediction
        _, features = plain(*args, feature_indices=feature_indices, **asked)
        return [prediction, features]

    if network is not teacher:
        vars(teacher)["forward"] = forward
    try:
        yield
    finally:
        vars(teacher).pop("forward", None)
        if own is not None:
            vars(teacher)["forward"] = own


def let_nodes_answer(model: Any, disback: DisBack) -> None:
    """Make the real score answer in `model`'s student steps; all else asks the teacher itself."""
    update = model._student_update_step

    def routed(*args: Any, **kwargs: Any) -> Any:
        with disback.real_score() as network, answering(model.teacher, network):
            return update(*args, **kwargs)

    model._student_update_step = routed
