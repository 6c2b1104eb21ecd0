"""DisBack (Distribution Backtracking) as a plugin for score-distillation trainers.

disback = DisBack.attach(roles=dict(teacher=..., fake_score=..., student=...), config=config)
turn = disback.begin_step(step)     # installs a node if one is due
...                                 # your step; skip the student unless turn.update_student
disback.end_step(step)              # records a node if one is due
"""

from typing import TYPE_CHECKING

from disback_plugin.lazy_names import lazy_names

if TYPE_CHECKING:
    from disback_plugin.adapter import get_adapter, list_adapters, register_adapter
    from disback_plugin.config import DisBackConfig, RecordConfig
    from disback_plugin.path import DegradationPath
    from disback_plugin.pretrained import load_denoiser
    from disback_plugin.progress import Turn
    from disback_plugin.real_score import FixedTeacher, PathNodeScheduler, RealScore
    from disback_plugin.session import DisBack
    from disback_plugin.version import __version__

__all__ = [
    "DegradationPath",
    "DisBack",
    "DisBackConfig",
    "FixedTeacher",
    "PathNodeScheduler",
    "RealScore",
    "RecordConfig",
    "Turn",
    "__version__",
    "get_adapter",
    "list_adapters",
    "load_denoiser",
    "register_adapter",
]
# where each name lives; imported when first asked for: the command line starts without torch
_HOMES = {
    "DegradationPath": "path",
    "DisBack": "session",
    "DisBackConfig": "config",
    "FixedTeacher": "real_score",
    "PathNodeScheduler": "real_score",
    "RealScore": "real_score",
    "RecordConfig": "config",
    "Turn": "progress",
    "__version__": "version",
    "get_adapter": "adapter",
    "list_adapters": "adapter",
    "load_denoiser": "pretrained",
    "register_adapter": "adapter",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
