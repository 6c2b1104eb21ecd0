"""Whether the real score still is what was installed: nothing but DisBack may write to it."""

from collections.abc import Mapping, Sequence

from disback_plugin.distributed import gather
from disback_plugin.errors import SessionError
from disback_plugin.real_score.pieces import Piece, checksums

_CAUSES = (
    "Nothing but DisBack may write there: does an optimizer or EMA of the host hold the teacher's "
    "parameters, are teacher and fake_score swapped, was a checkpoint loaded without DisBack's "
    "load_state_dict()? A host that needs the teacher's own weights for a while calls "
    "restore_teacher() before"
)


class Footing:
    """A checksum of every tensor as it was left, made in the pass that writes it.

    A tensor that is not known (a checkpoint was just loaded) has not moved.
    """

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def keep(self, name: str, left: int) -> None:
        """This is the checksum of the tensor as it is left."""
        self._sums[name] = left

    def has_moved(self, name: str, found: int) -> bool:
        """Whether the tensor is not as it was left; from now on `found` is how it was."""
        left, self._sums[name] = self._sums.get(name, found), found
        return left != found

    def moved(self, pieces: Mapping[str, Piece]) -> list[str]:
        """Which of them are not as they were left: one read of all."""
        return [name for name, found in checksums(pieces).items() if self.has_moved(name, found)]

    def forget(self) -> None:
        """The host may have loaded a checkpoint."""
        self._sums.clear()


def describe(names: Sequence[str], num_tensors: int) -> str:
    """What was overwritten, and who may have done it."""
    first = list(names[:3])
    return f"{len(names)} of {num_tensors} tensors differ (first: {first}). {_CAUSES}"


def refuse_overwritten(names: Sequence[str], num_tensors: int, what: str) -> None:
    """Raise SessionError on every rank where tensors moved on any: `what`, which, what to do."""
    found = next((ranks for ranks in gather(list(names)) if ranks), None)
    if found:
        raise SessionError(f"{what}: {describe(found, num_tensors)}")
