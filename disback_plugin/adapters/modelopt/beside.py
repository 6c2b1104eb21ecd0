"""Nodes beside a pipeline's teacher: they answer as the real score, it alone gives features."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.real_score import SeparateModule

CAPTURED = "_fastgen_captured"  # of a teacher: where its hooks leave features for the discriminator
PLAIN = "_disback_plain"  # of a pipeline: its own two methods


class BesideTeacher(SeparateModule):
    """A separate module that the pipeline's `compute_student_loss` asks by itself."""

    needs_real_score = False

    def answer_in(self, pipeline: Any) -> None:
        """Let the installed node give x0 in the student's loss; all else asks the teacher itself.

        The teacher is asked as ever, for the features that its call leaves. An older session's
        nodes do not answer any more.
        """
        plain = pipeline.compute_student_loss, pipeline._predict_x0
        student_loss, predict_x0 = vars(pipeline).setdefault(PLAIN, plain)

        def answered(model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
            x0 = predict_x0(model, *args, **kwargs)
            if model is not pipeline.teacher:
                return x0
            with self.evaluate() as network:
                if network is self.teacher:
                    return x0
                return _without_features(model, lambda: predict_x0(network, *args, **kwargs))

        def routed(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
            pipeline._predict_x0 = answered
            try:
                return student_loss(*args, **kwargs)
            finally:
                pipeline._predict_x0 = predict_x0

        pipeline.compute_student_loss = routed


def _without_features(teacher: nn.Module, predict: Callable[[], Tensor]) -> Tensor:
    """A node's prediction. Its hooks are the teacher's, and leave features where those do."""
    captured = getattr(teacher, CAPTURED, [])
    num_own = len(captured)
    with torch.no_grad():
        x0 = predict()
    del captured[num_own:]
    return x0
