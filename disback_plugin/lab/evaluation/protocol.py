"""A protocol: how many images, which pixels, which network, which numbers, against what."""

from dataclasses import dataclass
from typing import Literal, get_args

from disback_plugin.config_base import nearest
from disback_plugin.errors import ConfigError

Number = Literal["FID", "sFID", "KID", "IS", "precision", "recall", "patch FID", "CLIP score"]
Foreign = Literal["edm", "adm"]  # whose published reference statistics it takes
NUMBERS: tuple[Number, ...] = get_args(Number)
FEATURES_OF_BOTH: tuple[Number, ...] = ("KID", "precision", "recall")  # real images' too


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What happens to an image before the network sees it.

    crop: "square", the centre one as wide as the shorter side, resized to `size` (Lanczos);
    "patch", the centre size x size pixels of an image that is larger; None: nothing.
    resize: "inside", the network resizes as TensorFlow did (bilinear); "clean", clean-fid's
    antialiased bicubic to 299 x 299, in float.
    """

    resize: Literal["inside", "clean"]
    crop: Literal["square", "patch"] | None = None
    size: int | None = None

    def __str__(self) -> str:
        inner = {"inside": "unresized, by the network", "clean": "clean-fid's 299 x 299"}
        first = {
            None: "",
            "square": f"centre square to {self.size} (Lanczos), ",
            "patch": f"centre {self.size} x {self.size}, ",
        }
        return first[self.crop] + inner[self.resize]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """seed_ranges: each range of seeds that the samples hold is measured apart (first, end).

    split: images of one split of the inception score. foreign: published statistics it accepts.
    patch: the pixels of a second pass, for "patch FID". balanced: labels are expected in equal
    numbers. remarks: what differs from the paper's own code, printed and kept with the result.
    """

    name: str
    what: str
    num_images: int
    pixels: Pixels
    numbers: tuple[Number, ...]
    network: str = "inception-2015-12-05"
    num_real: int | None = None
    seed_ranges: tuple[tuple[int, int], ...] = ()
    split: int = 5000
    foreign: Foreign | None = None
    patch: Pixels | None = None
    balanced: bool = False
    remarks: tuple[str, ...] = ()


def named_number(name: str) -> Number:
    """`patch-fid` is "patch FID"; ConfigError for one that is none."""
    known = {number.lower().replace(" ", "-"): number for number in NUMBERS}
    if name.lower() not in known:
        raise ConfigError(f"there is no number {name!r}; {nearest(name.lower(), list(known))}")
    return known[name.lower()]


PROTOCOLS: dict[str, Protocol] = {}


def register_protocol(protocol: Protocol) -> Protocol:
    """Make it known by its name; a second one of that name is an error."""
    if protocol.name in PROTOCOLS:
        raise ConfigError(f"there is a protocol {protocol.name!r} already")
    PROTOCOLS[protocol.name] = protocol
    return protocol
