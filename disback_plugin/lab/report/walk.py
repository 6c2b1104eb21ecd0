"""Which network answers as DisBack's real score, from recording to the teacher."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from disback_plugin.lab.results.runs import Mark, Run


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What answers as DisBack's real score from `begin` on: a node, the teacher, or recording."""

    name: str
    short: str
    begin: Mark
    strength: float

    @property
    def style(self) -> str:
        return "recording" if self.name == "recording" else "answering"


def walk_of(runs: Sequence[Run]) -> list[Answering]:
    """Recording and walk of the arm disback, each begin the mean over its seeds."""
    ours = [run for run in runs if run.arm == "disback"]
    marks: dict[int, list[Mark]] = defaultdict(list)
    for run in ours:
        for mark in run.switches:
            marks[mark.node or 0].append(mark)
    most = max(marks, default=0)
    walk = [
        Answering(
            name=f"node {node}" if node else "teacher",
            short=str(node) if node else "T",
            begin=_mean(found),
            strength=0.05 + 0.3 * node / max(most, 1) if node else 0.0,
        )
        for node, found in marks.items()
    ]
    recorded = [run.recording[0] for run in ours if run.recording]
    if recorded:
        begin = _mean(recorded)
        walk.append(Answering(name="recording", short="rec", begin=begin, strength=0.35))
    return sorted(walk, key=lambda one: one.begin.step)


def _mean(marks: Sequence[Mark]) -> Mark:
    return replace(
        marks[0],
        step=round(fmean(mark.step for mark in marks)),
        seconds=fmean(mark.seconds for mark in marks),
        passes=fmean(mark.passes for mark in marks),
    )
