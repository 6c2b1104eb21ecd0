"""Reference trainer: teacher, recording and backtracking of the experiments, on Accelerate."""

from disback_plugin.lab.trainer.interrupt import RunInterrupted
from disback_plugin.lab.trainer.run import ARMS, RunResult, run_experiment
