"""Fair comparison of arms: paired seeds in one batch, learning-rate sweep, intervals."""

from disback_plugin.lab.compare.arms import ArmPlan, make_arm
from disback_plugin.lab.compare.run import compare
from disback_plugin.lab.compare.training import BatchedDistillation
