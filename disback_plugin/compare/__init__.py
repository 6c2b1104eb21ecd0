"""Fair comparison of arms: paired seeds in one batch, learning-rate sweep, bootstrap intervals."""

from disback_plugin.compare.arms import ArmPlan, make_arm
from disback_plugin.compare.markdown import markdown
from disback_plugin.compare.results import Curve, read_curves, write_curves
from disback_plugin.compare.run import compare
from disback_plugin.compare.summary import summarise, table
from disback_plugin.compare.training import BatchedDistillation

__all__ = [
    "ArmPlan",
    "BatchedDistillation",
    "Curve",
    "compare",
    "make_arm",
    "markdown",
    "read_curves",
    "summarise",
    "table",
    "write_curves",
]
