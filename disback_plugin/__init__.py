"""DisBack (Distribution Backtracking) as a plugin for score-distillation trainers.

disback = DisBack.attach(roles=dict(teacher=..., fake_score=..., student=...), config=config)
turn = disback.begin_step(step)     # installs a node if one is due
...                                 # your step; skip the student unless turn.update_student
disback.end_step(step)              # records a node if one is due
"""

from disback_plugin import adapters as _adapters  # registers the adapters that come with us
from disback_plugin.adapter import get_adapter, list_adapters, register_adapter
from disback_plugin.config import DisBackConfig, RecordConfig
from disback_plugin.path import DegradationPath
from disback_plugin.pretrained import load_denoiser
from disback_plugin.progress import Turn
from disback_plugin.real_score import FixedTeacher, PathNodeScheduler, RealScore
from disback_plugin.session import DisBack

__version__ = "0.1.0"
__all__ = [
    "DegradationPath",
    "DisBack",
    "DisBackConfig",
    "FixedTeacher",
    "PathNodeScheduler",
    "RealScore",
    "RecordConfig",
    "Turn",
    "get_adapter",
    "list_adapters",
    "load_denoiser",
    "register_adapter",
]
del _adapters
