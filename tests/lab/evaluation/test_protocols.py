"""The registered protocols against a literal table, and what is said of them."""

import pytest

from disback_plugin.cli.evaluate import DETAILS
from disback_plugin.errors import ConfigError
from disback_plugin.lab.evaluation.protocol import (
    PROTOCOLS,
    named_number,
    register_protocol,
)
from disback_plugin.lab.evaluation.protocols import get_protocol

TABLE = {
    "edm": (50_000, "unresized, by the network", "FID", "edm"),
    "adm": (50_000, "unresized, by the network", "FID, sFID, IS, precision, recall", "adm"),
    "dmd2-imagenet": (50_000, "unresized, by the network", "FID", "edm"),
    "coco-256": (
        *(30_000, "centre square to 256 (Lanczos), clean-fid's 299 x 299", "FID, CLIP score"),
        None,
    ),
    "coco-512": (
        *(10_000, "centre square to 512 (Lanczos), clean-fid's 299 x 299"),
        *("FID, patch FID, CLIP score", None),
    ),
    "coco-lcm": (
        *(30_000, "centre square to 512 (Lanczos), clean-fid's 299 x 299", "FID"),
        None,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_protocol_is_pinned(name: str) -> None:
    found = get_protocol(name)
    numbers = ", ".join(found.numbers)
    assert (found.num_images, str(found.pixels), numbers, found.foreign) == TABLE[name]
    assert found.network == "inception-2015-12-05"


def test_all_are_in_the_table_and_in_the_help() -> None:
    get_protocol("edm")
    assert PROTOCOLS.keys() == TABLE.keys()
    lines = DETAILS[DETAILS.index("protocols:") :].splitlines()
    told = {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "}
    assert told >= TABLE.keys()


def test_the_rest_of_what_is_pinned() -> None:
    assert get_protocol("adm").split == 5000
    assert get_protocol("coco-lcm").num_real == 50_000
    assert str(get_protocol("coco-512").patch) == "centre 299 x 299, clean-fid's 299 x 299"
    assert get_protocol("dmd2-imagenet").balanced


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'coco-256'"):
        get_protocol("coco256")
    with pytest.raises(ConfigError, match="did you mean 'patch-fid'"):
        named_number("patchfid")
    assert named_number("Patch-FID") == "patch FID"


def test_a_second_protocol_of_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="'edm' already"):
        register_protocol(get_protocol("edm"))
