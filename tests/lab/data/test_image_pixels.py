"""What an image says of itself is applied, or said, or the image is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from disback_plugin.errors import DataError
from disback_plugin.lab.data.images import open_images
from tests.lab.data.test_images import write_folder


def image(mode, value, **saved):
    stream = io.BytesIO()
    Image.new(mode, (4, 2), value).save(stream, **{"format": "PNG"} | saved)
    return stream.getvalue()


def turned(orientation):
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 4)
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(stream, "PNG", exif=exif)
    return stream.getvalue(), pixels


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, lambda x: x),
        (2, np.fliplr),
        (3, lambda x: np.rot90(x, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: np.rot90(x, 2).T),
        (8, np.rot90),
        (9, lambda x: x),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, expected):
    data, pixels = turned(orientation)
    source = open_images(write_folder(tmp_path / "a", {"a.png": data}))
    assert np.array_equal(next(source.rows(None))[0][0], expected(pixels))
    assert source.remarks() == (["1 image turned as EXIF says"] if 1 < orientation < 9 else [])


PALETTE = Image.new("P", (4, 2), 1)
PALETTE.putpalette([9, 9, 9, 200, 100, 50])
CLEAR = io.BytesIO()
PALETTE.save(CLEAR, "PNG", transparency=1)
KINDS = {
    "RGBA": (image("RGBA", (10, 200, 30, 0)), 255, "with transparency, laid over white"),
    "half": (image("RGBA", (0, 0, 0, 51)), 204, "with transparency, laid over white"),
    "LA": (image("LA", (7, 0)), 255, "with transparency, laid over white"),
    "P with tRNS": (CLEAR.getvalue(), 255, "with transparency, laid over white"),
    "RGB with tRNS": (image("RGB", (5, 5, 5), transparency=(5, 5, 5)), 255, "with transparency"),
    "opaque RGBA": (image("RGBA", (7, 7, 7, 255)), 7, None),
    "CMYK": (image("CMYK", (0, 0, 0, 255), format="JPEG"), 0, "of CMYK, turned into RGB"),
    "a profile": (image("L", 7, icc_profile=b"Display P3"), 7, "with a colour profile other than"),
    "sRGB": (image("L", 7, icc_profile=b"d\0e\0s\0R\0G\0B\0"), 7, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_image_says_of_itself_is_applied_or_said(tmp_path, kind):
    data, value, remark = KINDS[kind]
    source = open_images(write_folder(tmp_path / "a", {"a.png": data, "b.png": data}))
    for pixels, _ in source.rows(None):
        assert np.all(pixels == value)
    said = source.remarks()
    assert (
        said == []
        if remark is None
        else len(said) == 1 and said[0].startswith(f"2 images {remark}")
    )


def test_the_upper_bits_of_sixteen_are_kept_and_said(tmp_path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = zlib.compress(b"\0" + struct.pack(">HHH", 0x1234, 0x80FF, 0xFFFF))
    deep = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    source = open_images(write_folder(tmp_path / "a", {"a.png": deep}))
    assert next(source.rows(None))[0].ravel().tolist() == [0x12, 0x80, 0xFF]
    assert source.remarks() == ["1 image of 16 bits a channel, of which the upper 8 are kept"]


def test_a_row_of_160_bytes_has_no_sixteen_bits_a_channel(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (53, 1)).save(stream, "BMP")
    source = open_images(write_folder(tmp_path / "a", {"a.bmp": stream.getvalue()}))
    assert [pixels.shape for pixels, _ in source.rows(None)] == [(3, 1, 53)]
    assert source.remarks() == []


def test_animations_and_programs_are_refused(tmp_path):
    frames, stream = [Image.new("RGB", (4, 4), (n, n, n)) for n in range(3)], io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n"
    for name, data, message in (
        ("a", stream.getvalue(), "an animation of 3 frames"),
        ("b", postscript, "cannot be read as an image"),
    ):
        with pytest.raises(DataError, match=rf"x\.png.*{message}"):
            list(open_images(write_folder(tmp_path / name, {"x.png": data})).rows(None))
