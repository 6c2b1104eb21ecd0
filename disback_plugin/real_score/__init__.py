"""What answers as the real score, and how a node is installed there."""

from disback_plugin.real_score.copying import InstallReport
from disback_plugin.real_score.installation import Installation
from disback_plugin.real_score.walk import FixedTeacher, PathNodeScheduler, RealScore, Switch
from disback_plugin.real_score.whole import InPlace, SeparateModule
