"""Names in order: numbers in them count as numbers, and an order that would be a guess is refused.

Everything but runs of digits is compared as text, as `sorted` does.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from disback_plugin.errors import DataError, count
from disback_plugin.reading import cut

ADVICE = "rename them so that their order is plain (0001, 0002, ...)"
_DIGITS = re.compile("[0-9]+")
_FRACTION = re.compile(r"([0-9]+)(\.[0-9]+)")


def in_order(names: Sequence[str]) -> list[str]:
    """latents_2 before latents_10."""
    return sorted(names, key=lambda name: (_key(name), name))


def said(ordered: Sequence[str]) -> str:
    """How names that `in_order` gave lie, for people."""
    for name, as_text in zip(ordered, sorted(ordered), strict=True):
        if name != as_text:
            return f"by the numbers in the names, so {cut(name)} before {cut(as_text)}"
    return "by name"


def refuse_twins(folder: Path, ordered: Sequence[str], bare: Sequence[str]) -> None:
    """Raise DataError where two names are one number (1 and 01); bare: names without suffixes."""
    for number, (one, other) in enumerate(pairwise(map(_key, bare))):
        if one == other:
            pair = " and ".join(map(cut, ordered[number : number + 2]))
            raise DataError(f"{folder} has {pair}, the same twice: remove one, or {ADVICE}")


def refuse_guesses(folder: Path, ordered: Sequence[str]) -> None:
    """Raise DataError where files that are paired by their order have more than one order."""
    bare = [name.rsplit(".", 1)[0] for name in ordered]
    refuse_twins(folder, ordered, bare)
    fractions = [_FRACTION.sub(lambda found: _padded(found[1]) + found[2], name) for name in bare]
    if any(map(_FRACTION.search, bare)) and fractions != sorted(fractions):
        raise DataError(
            f"{folder}: the numbers in {cut(ordered[0])} ... {cut(ordered[-1])} have one order as "
            f"fractions and another as whole numbers: {ADVICE}"
        )
    numbers = [_padded(found[0]) for found in map(_DIGITS.findall, bare) if len(found) == 1]
    one_series = len(set(numbers)) == len(bare) and numbers != sorted(numbers)
    if one_series:  # under several names, or the numbers would rise
        raise DataError(
            f"{folder}: {', '.join(map(cut, ordered[:4]))} are one series of numbers under several "
            f"names, whose order differs: {ADVICE}"
        )


def gaps(ordered: Sequence[str]) -> str:
    """Numbers that are missing in one series of names, said; "" where none is."""
    bare = [name.rsplit(".", 1)[0] for name in ordered]
    if len({_DIGITS.sub("#", name) for name in bare}) > 1:
        return ""
    columns = zip(*map(_DIGITS.findall, bare), strict=True)
    varying = [column for column in columns if len(set(column)) > 1]
    if len(varying) != 1 or max(map(len, varying[0])) > 18:
        return ""
    steps = [(int(low) + 1, int(high)) for low, high in pairwise(varying[0])]
    missing = [first for first, end in steps if first != end]
    num = sum(end - first for first, end in steps)
    return f"; {count(num, 'number')} missing, first {missing[0]}" if missing else ""


def _key(name: str) -> str:
    """macOS writes é as two characters: the same name."""
    return _DIGITS.sub(lambda found: _padded(found[0]), unicodedata.normalize("NFC", name))


def _padded(digits: str) -> str:
    """Text that is ordered as the number is: its length before it, however long it is."""
    digits = digits.lstrip("0")
    return f"{len(digits):05d}{digits}"
