"""Reference trainer: teacher, recording and backtracking of the experiments, on Accelerate."""

from disback_plugin.trainer.config import ExperimentConfig, load_config, parse_config
from disback_plugin.trainer.interrupt import RunInterrupted
from disback_plugin.trainer.run import ARMS, RunResult, run_experiment

__all__ = [
    "ARMS",
    "ExperimentConfig",
    "RunInterrupted",
    "RunResult",
    "load_config",
    "parse_config",
    "run_experiment",
]
