"""Tables of tensors compared: what does not fit is named, each thing once."""

import torch

from disback_plugin.tensors import misfit, under


def test_a_misfit_names_what_is_missing_unexpected_and_reshaped_with_counts():
    due = {"a": (2, 3), "b": torch.zeros(4), "c": (), "d": [5], "e": (1,)}
    given = {"a": torch.zeros(2, 3), "b": (5,), "d": (6,), "x": (), "y": (), "z": (), "w": ()}
    assert misfit(due, given) == (
        "missing ['c', 'e'] (2 in all), unexpected ['w', 'x', 'y'] (4 in all), "
        "'b' has shape (5,), expected (4,) (2 in all)"
    )
    assert misfit(due, {**due, "e": (2,)}) == "'e' has shape (2,), expected (1,)"
    assert misfit(due, dict(reversed(due.items()))) is None


def test_names_under_a_prefix_lose_it():
    assert list(under("net/", {"net/a": torch.ones(1), "net": torch.ones(1)})) == ["a"]
