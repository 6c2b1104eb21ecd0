"""What makes a checkout another tree than the known one, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Why a file is not as expected; the value says what to do."""

    UNKNOWN = "use the known release, or --force to look for the places all the same"
    ACCEPTED = "nothing to do: it was accepted by --force"
    CHANGED = "undo that change, or drop it by revert --force"
    DELETED = "put the file back, or have it restored by revert --force"
    ORPHANED = "restore these files from git or the archive"


# changes made after patching: applying over them would lose them, reverting only when forced
SINCE_PATCHING = (Kind.CHANGED, Kind.DELETED)


@dataclass(frozen=True)
class Problem:
    """One file that is not as expected; `str()` says what was seen. there: it is not missing."""

    kind: Kind
    file: str
    seen: str
    there: bool = True

    def __str__(self) -> str:
        return f"{self.file} {self.seen}"


def describe(problems: Iterable[Problem]) -> str:
    """Problems grouped by kind, each group with what to do."""
    groups: dict[Kind, list[str]] = {}
    for problem in problems:
        groups.setdefault(problem.kind, []).append(str(problem))
    return "; ".join(f"{'; '.join(seen)}: {kind.value}" for kind, seen in groups.items())
