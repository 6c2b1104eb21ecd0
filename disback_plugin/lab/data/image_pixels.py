"""From an image as a file holds it to RGB pixels: what it says of itself is applied, and counted.

EXIF orientation is applied; transparency is laid over white; colour profiles are not applied.
"""

import io
import warnings
from collections import Counter
from typing import Any

import numpy as np

from disback_plugin.errors import DataError, count

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # by content; others could run programs (EPS)
_ORIENTATION = 0x0112
_TURNS = (
    "FLIP_LEFT_RIGHT",
    "ROTATE_180",
    "FLIP_TOP_BOTTOM",
    "TRANSPOSE",
    "ROTATE_270",
    "TRANSVERSE",
    "ROTATE_90",
)  # of the orientations 2 to 8
TURNED = "turned as EXIF says"
OVER_WHITE = "with transparency, laid over white"
UPPER_BITS = "of 16 bits a channel, of which the upper 8 are kept"
CMYK = "of CMYK, turned into RGB without their profile"
PROFILE = "with a colour profile other than sRGB, which is not applied"


def read_pixels(
    pil: Any, content: bytes | np.ndarray, resolution: int | None, seen: Counter[str]
) -> np.ndarray:
    """(3, H, W) uint8, cropped to the centre square and resized (Lanczos) to `resolution`, if any.

    pil: the module PIL.Image. seen: counts what was decided. Raises DataError, or whatever Pillow
    raises for a damaged image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of images that are large, or tell odd things of themselves
        with _opened(pil, content) as image:
            return _prepare(pil, _as_told(pil, image, seen), resolution)


def _opened(pil: Any, content: bytes | np.ndarray) -> Any:
    if isinstance(content, np.ndarray):
        return pil.fromarray(content)
    try:
        return pil.open(io.BytesIO(content), formats=FORMATS)
    except pil.UnidentifiedImageError:
        known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ValueError(f"it is no whole {known}; convert it, or fetch it anew") from None


def remarks(seen: Counter[str]) -> list[str]:
    """`3 images turned as EXIF says`, ..."""
    return [f"{count(num, 'image')} {what}" for what, num in sorted(seen.items())]


def _as_told(pil: Any, image: Any, seen: Counter[str]) -> Any:
    """In RGB."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's JPEG with a preview behind it
        raise DataError(f"an animation of {frames} frames: save the one that is meant")
    if image.mode.startswith(("I", "F")):  # converting would clip, not scale
        raise DataError(f"pixels of mode {image.mode!r}, not 8 bits a channel: convert the image")
    deep = image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile)
    profile = image.info.get("icc_profile") or b""
    image.load()
    turn = image.getexif().get(_ORIENTATION, 1)
    if turn in range(2, 9):
        image = image.transpose(pil.Transpose[_TURNS[turn - 2]])
    clear = image.has_transparency_data
    if clear:
        image = image.convert("RGBA")
        clear = image.getextrema()[3][0] < 255
        image = pil.alpha_composite(pil.new("RGBA", image.size, "white"), image)
    other = bool(profile) and b"sRGB" not in profile.replace(b"\0", b"")
    for what, found in (
        (TURNED, turn in range(2, 9)),
        (OVER_WHITE, clear),
        (UPPER_BITS, deep),
        (CMYK, image.mode == "CMYK"),
        (PROFILE, other and image.mode != "CMYK"),
    ):
        if found:
            seen[what] += 1
    return image.convert("RGB")


def _prepare(pil: Any, image: Any, resolution: int | None) -> np.ndarray:
    if resolution is not None and image.size != (resolution, resolution):
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        image = image.resize((resolution, resolution), pil.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
