"""What answers as the real score, and how a node is installed there."""

from disback_plugin.real_score.installation import Installation, InstallReport
from disback_plugin.real_score.modules import InPlace, SeparateModule
from disback_plugin.real_score.strategy import (
    AdaptiveScheduler,
    FixedTeacher,
    PathNodeScheduler,
    RealScore,
    Switch,
    make_walk,
)

__all__ = [
    "AdaptiveScheduler",
    "FixedTeacher",
    "InPlace",
    "InstallReport",
    "Installation",
    "PathNodeScheduler",
    "RealScore",
    "SeparateModule",
    "Switch",
    "make_walk",
]
