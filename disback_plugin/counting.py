"""Numbers with their nouns, as they are printed."""


def count(num: int, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `2 seeds`, `1,234 nodes`; `plural` where it is not the noun with an s."""
    return f"{num:,} {noun if num == 1 else plural or noun + 's'}"
