"""Which patches find their places in a tree, and what to say of one that is not the known one."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from disback_plugin.patching.engine import Patch, PatchError, apply_patches
from disback_plugin.patching.problems import Problem


def fitted(
    sources: Mapping[str, bytes], patches: Iterable[Patch]
) -> Iterator[tuple[Patch, str | None]]:
    """Each patch, tried on top of those before it that fit: None, or why it does not."""
    now = dict(sources)
    for patch in patches:
        try:
            now |= apply_patches(now, [patch])
        except PatchError as error:
            yield patch, str(error)
        else:
            yield patch, None


def describe_unknown(
    problems: Sequence[Problem],
    watched: Collection[str],
    sources: Mapping[str, bytes],
    patches: Sequence[Patch],
) -> str:
    """What differs in an unknown tree, which patches fit it all the same, and what to do.

    Where at least one of the `watched` files is as it should be, the others were edited.
    """
    edited = [problem.file for problem in problems if problem.there]
    said = [str(problem) for problem in problems if not problem.there]
    if edited and len(problems) < len(watched):
        said.insert(0, f"you edited {', '.join(edited)}")
    elif edited:
        are = "is" if len(edited) == 1 else "are"
        said.insert(0, f"{', '.join(edited)} {are} not the known release's")
    return f"{'; '.join(said)}; {_fits(sources, patches)}"


def _fits(sources: Mapping[str, bytes], patches: Sequence[Patch]) -> str:
    reasons = {patch: why for patch, why in fitted(sources, patches) if why is not None}
    num = len(patches)
    if not reasons:
        return f"{f'all {num} patches' if num > 1 else 'the patch'} still fit: apply --force"
    told = [f"{num - len(reasons)} of {num} patches still fit, not:", *reasons.values()]
    return "\n  ".join(told) + f"\n{_way_out(reasons, patches)}"


def _way_out(reasons: Collection[Patch], patches: Sequence[Patch]) -> str:
    if any(patch.kind == "feature" for patch in reasons):
        return "undo the edit there, or use the known release"
    left = [p.name for p in patches if p.kind == "repair" and p not in reasons]
    return (
        "undo the edit there, or leave these repairs out: apply --force --repairs "
        f"{','.join(left) or 'none'}"
    )
