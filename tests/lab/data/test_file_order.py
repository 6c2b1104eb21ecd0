"""Numbered files come in the order of their numbers, or are refused where that is a guess."""

from pathlib import Path

import pytest

from disback_plugin.errors import DataError
from disback_plugin.lab.data.file_order import gaps, in_order, refuse_guesses, said

ORDERS = {
    "no padding": ["l_2.npy", "l_10.npy", "l_100.npy"],
    "mixed padding": ["l_01.npy", "l_2.npy", "l_0010.npy"],
    "two numbers": ["a2_b9.npy", "a2_b10.npy", "a10_b1.npy"],
    "numbers beyond any integer": [f"{'9' * 5000}.npy", f"1{'0' * 5000}.npy"],
    "text alone": ["B.npy", "a-b.npy", "a.npy", "a1.npy", "é.npy"],
    "series one after the other": ["cats_0.npy", "cats_1.npy", "dogs_0.npy"],
}


@pytest.mark.parametrize("case", ORDERS)
def test_numbers_in_names_count_as_numbers_and_text_as_text(case):
    names = ORDERS[case]
    assert in_order(sorted(names)) == names
    assert in_order(names[::-1]) == names
    refuse_guesses(Path("here"), names)
    assert (said(names) == "by name") == (names == sorted(names))


def test_the_order_and_what_is_missing_is_said():
    assert (
        said(["l_2.npy", "l_10.npy"]) == "by the numbers in the names, so l_2.npy before l_10.npy"
    )
    assert gaps(["l_2.npy", "l_3.npy", "l_7.npy", "l_9.npy"]) == "; 4 numbers missing, first 4"
    for whole in (
        ["l_2.npy", "l_3.npy"],
        ["a_1.npy", "b_9.npy"],
        ["a.npy"],
        ["1_2.npy", "3_4.npy"],
    ):
        assert gaps(whole) == ""


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.npy", "01.npy"], r"01\.npy and 1\.npy, the same twice"),
        (["1.npy", "1.safetensors"], r"1\.npy and 1\.safetensors, the same twice"),
        (["s_0.25.npy", "s_0.5.npy"], "one order as fractions and another as whole numbers"),
        (["latents_1.npy", "latent_2.npy"], "one series of numbers under several names"),
    ],
)
def test_an_order_that_is_a_guess_is_refused(names, message):
    with pytest.raises(DataError, match=message):
        refuse_guesses(Path("here"), in_order(names))
