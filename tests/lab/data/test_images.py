"""Images and their labels come the same from a folder, a zip of dataset_tool and an .npz."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from disback_plugin.errors import DataError
from disback_plugin.lab.data.images import open_images

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
NAMES = [f"{number // 2:05d}/img{number:08d}.png" for number in range(6)]
LABELS = [3, 0, 3, 1, 2, 0]


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def content(labels: object) -> dict[str, bytes]:
    """What dataset_tool writes, by name."""
    table = json.dumps({"labels": labels}).encode()
    return {"dataset.json": table} | dict(zip(NAMES, map(png, PIXELS), strict=True))


def write_folder(folder, entries):
    for name, data in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(file, entries):
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in reversed(entries.items()):
            archive.writestr(name, data)
    return file


def write_npz(file, **arrays):
    np.savez(file, **arrays)
    return file


def read(source, resolution=None):
    rows = list(source.rows(resolution))
    return np.stack([pixels for pixels, _ in rows]), [label for _, label in rows]


LABELLED = content([list(pair) for pair in zip(NAMES, LABELS, strict=True)])
JPEGS = [png(pixels) for pixels in PIXELS]
CASES = {
    "folder": lambda at: write_folder(at / "images", LABELLED),
    "zip": lambda at: write_zip(at / "images.zip", LABELLED),
    "channels last": lambda at: write_npz(at / "a.npz", images=PIXELS, labels=np.array(LABELS)),
    "channels first": lambda at: write_npz(
        at / "a.npz", images=PIXELS.transpose(0, 3, 1, 2), labels=np.array(LABELS, np.uint8)
    ),
    "openai": lambda at: write_npz(at / "a.npz", arr_0=PIXELS, arr_1=np.array(LABELS)[:, None]),
    "jpeg": lambda at: write_npz(
        at / "a.npz",
        jpeg=np.frombuffer(b"".join(JPEGS), np.uint8),
        offsets=np.cumsum([0, *map(len, JPEGS)]),
        labels=np.array(LABELS, np.uint8),
        classes=np.array(list("abcd")),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_form_gives_the_same_pixels_and_labels(tmp_path, case):
    pixels, labels = read(open_images(CASES[case](tmp_path)))
    assert np.array_equal(pixels, PIXELS.transpose(0, 3, 1, 2))
    assert labels == LABELS


@pytest.mark.parametrize("case", CASES)
def test_labels_can_be_left_out(tmp_path, case):
    assert read(open_images(CASES[case](tmp_path), "none"))[1] == [None] * 6


def test_labels_null_means_none_though_there_are_sub_folders(tmp_path):
    assert open_images(write_zip(tmp_path / "a.zip", content(None))).labels is None


def test_without_a_table_sub_folders_are_the_classes_in_order_of_name(tmp_path):
    entries = {name: data for name, data in LABELLED.items() if name != "dataset.json"}
    entries |= {"__MACOSX/00000/._img.png": b"", "00001/.hidden.png": b"", "readme.txt": b""}
    assert open_images(write_folder(tmp_path / "a", entries)).labels.tolist() == [0, 0, 1, 1, 2, 2]
    one = {name: data for name, data in entries.items() if name.startswith("00000")}
    assert open_images(write_folder(tmp_path / "b", one)).labels is None


def test_images_beside_class_folders_are_refused(tmp_path):
    folder = write_folder(tmp_path / "a", {"x.png": JPEGS[0], "cats/y.png": JPEGS[1]})
    with pytest.raises(DataError, match=r"images itself \(x\.png\) and in sub-folders \(cats\)"):
        open_images(folder)
    assert len(open_images(folder, "none")) == 2


def test_labels_may_be_in_a_file_elsewhere(tmp_path):
    folder = write_folder(tmp_path / "a", LABELLED)
    table = tmp_path / "other.json"
    table.write_text(json.dumps({"labels": dict.fromkeys(NAMES, 7)}))
    assert open_images(folder, str(table)).labels.tolist() == [7] * 6


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"labels": [[NAMES[0], 0]]}, rf"no label for 5 of 6 images: {NAMES[1]}"),
        ({"labels": {name: [0.5] for name in NAMES}}, r"is \[0\.5\], no class number"),
        ({"labels": dict.fromkeys(NAMES, -1)}, r"is -1, no class number"),
        ({"labels": dict.fromkeys(NAMES, True)}, r"is True, no class number"),
        ({"labels": dict.fromkeys(NAMES, 2**70)}, rf"is {2**70}, no class number"),
        ({"classes": []}, "is not of the form"),
        ([], "is not of the form"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, table, message):
    entries = LABELLED | {"dataset.json": json.dumps(table).encode()}
    with pytest.raises(DataError, match=message):
        open_images(write_folder(tmp_path / "a", entries))


def test_a_limit_takes_images_from_all_over_with_their_labels(tmp_path):
    source = open_images(write_folder(tmp_path / "a", LABELLED)).spread(3)
    pixels, labels = read(source)
    assert np.array_equal(pixels, PIXELS[[0, 2, 4]].transpose(0, 3, 1, 2))
    assert labels == [3, 3, 2]
    assert source.spread(10) is source


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (4, 4), 7),
        Image.new("LA", (4, 4), (7, 255)),
        Image.new("RGBA", (4, 4), (7, 7, 7, 255)),
        Image.new("CMYK", (4, 4), (248, 248, 248, 0)),
        Image.new("RGB", (4, 4), (7, 7, 7)).quantize(4),
    ],
    ids=lambda image: image.mode,
)
def test_every_kind_of_image_becomes_rgb(tmp_path, image):
    image.save(tmp_path / ("a.jpg" if image.mode == "CMYK" else "a.png"), quality=100)
    pixels, _ = read(open_images(tmp_path))
    assert pixels.shape == (1, 3, 4, 4)
    assert np.abs(pixels.astype(int) - 7).max() <= 1


def test_grey_arrays_become_rgb(tmp_path):
    grey = PIXELS[..., :1]
    for layout in (grey, grey.transpose(0, 3, 1, 2)):
        pixels, _ = read(open_images(write_npz(tmp_path / "a.npz", images=layout)))
        assert np.array_equal(pixels, np.repeat(grey.transpose(0, 3, 1, 2), 3, axis=1))


def test_sixteen_bits_are_refused_because_converting_would_clip(tmp_path):
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: pixels of mode 'I;16', not 8 bits"):
        read(open_images(tmp_path))


def test_the_centre_square_is_cropped_and_then_resized(tmp_path):
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, 3:7] = np.arange(1, 5, dtype=np.uint8)[None, :, None] * 50
    wide[:, :3], wide[:, 7:] = 255, 255  # never seen, not even by the filter at the border
    for name, pixels in (("a", wide), ("b", wide.transpose(1, 0, 2))):
        write_folder(tmp_path / name, {"x.png": png(pixels)})
    expected = np.repeat(np.arange(1, 5, dtype=np.uint8)[None] * 50, 4, axis=0)
    same, _ = read(open_images(tmp_path / "a"), 4)
    assert np.array_equal(same[0], np.stack([expected] * 3))
    tall, _ = read(open_images(tmp_path / "b"), 4)
    assert np.array_equal(tall[0], np.stack([expected.T] * 3))
    half = read(open_images(tmp_path / "a"), 2)[0][0, 0].astype(int)
    assert np.array_equal(half[0], half[1])
    assert 50 <= half[0, 0] <= 100 < 150 <= half[0, 1] <= 200


def test_an_image_of_another_size_is_named(tmp_path):
    entries = {"a.png": png(np.zeros((4, 4, 3), np.uint8)), "b.png": png(PIXELS[0])}
    with pytest.raises(DataError, match=r"b\.png has 5 x 5 pixels, .*a\.png 4 x 4: .*--resolution"):
        read(open_images(write_folder(tmp_path / "a", entries)))


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    whole = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name, data in (("a", b"no image"), ("b", whole[:-600]), ("c", b"")):
        folder = write_folder(tmp_path / name, {"good.png": whole, f"bad_{name}.png": data})
        with pytest.raises(DataError, match=rf"{name}/bad_{name}\.png cannot be read as an image"):
            read(open_images(folder))
    archive = write_zip(tmp_path / "d.zip", LABELLED)
    damaged = archive.read_bytes().replace(JPEGS[3], JPEGS[3][:60] + b"????" + JPEGS[3][64:])
    archive.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"d\.zip/{NAMES[3]} cannot be read as an image"):
        read(open_images(archive))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS, "y": np.array(LABELS)}, "no array labels or arr_1, but y, which could"),
        ({"images": PIXELS, "arr_0": PIXELS}, "has images and arr_0: save the one that is meant"),
        ({"images": np.zeros((2, 3, 8, 3), np.uint8)}, "nothing tells where channels are"),
        ({"pixels": PIXELS}, "has the arrays pixels, but neither images nor jpeg"),
        ({"images": PIXELS / 255}, r"images are float64 \(6, 5, 5, 3\), not uint8"),
        ({"images": PIXELS[..., :2]}, r"images are uint8 \(6, 5, 5, 2\)"),
        ({"images": PIXELS, "labels": np.zeros(5, int)}, r"labels are int64 \(5,\), not 6 class"),
        ({"images": PIXELS, "labels": np.zeros(6)}, "labels are float64"),
        ({"images": np.array([b"a", None], object)}, "cannot be read: it holds Python objects"),
        ({"images": PIXELS, "labels": np.full(6, 2**40)}, r"labels are int64 \(6,\), not 6 class"),
        ({"images": PIXELS, "labels": np.arange(-1, 5)}, r"labels are int64 \(6,\), not 6 class"),
        ({"images": PIXELS[:0], "labels": np.zeros(0, int)}, "holds no images"),
        ({"jpeg": PIXELS.ravel(), "offsets": np.zeros(2)}, r"offsets float64 \(2,\), not uint8"),
        ({"jpeg": PIXELS.ravel(), "offsets": np.array(3)}, r"offsets int64 \(\), not uint8"),
        ({"jpeg": PIXELS / 255, "offsets": np.arange(2)}, r"jpeg is float64 \(6, 5, 5, 3\)"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        open_images(write_npz(tmp_path / "a.npz", **arrays))


def test_arrays_that_would_fill_the_memory_are_refused_unread(tmp_path, monkeypatch):
    file = write_npz(tmp_path / "a.npz", images=PIXELS)
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(DataError, match=r"its arrays take 578 bytes of memory; there are 100"):
        open_images(file)


@pytest.mark.parametrize("damage", [slice(0, 40), slice(0, -30), slice(7, None)])
def test_a_damaged_or_foreign_npz_is_named(tmp_path, damage):
    file = write_npz(tmp_path / "a.npz", images=PIXELS)
    for content in (file.read_bytes()[damage], b"\x80\x04pickle"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz cannot be read: (?!.*allow_pickle)"):
            read(open_images(file))


@pytest.mark.parametrize("offsets", [[0, 9, 5], [-1, 5], [0, 10**6], [3, 3]])
def test_offsets_outside_the_bytes_are_refused(tmp_path, offsets):
    file = write_npz(tmp_path / "a.npz", jpeg=PIXELS.ravel(), offsets=np.array(offsets))
    with pytest.raises(DataError, match="offsets do not rise from 0 to the 450 bytes"):
        open_images(file)


def test_a_source_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(DataError, match=r"holds no images \(\.png, \.jpg"):
        open_images(tmp_path)
    with pytest.raises(DataError, match=r"notes\.txt is no folder, \.zip or \.npz of images"):
        open_images(tmp_path / "notes.txt")
