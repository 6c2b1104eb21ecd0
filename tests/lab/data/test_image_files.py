"""Zips of every system, links, tables and class folders: labels are those meant, or refused."""

import json
import os
import zipfile

import numpy as np
import pytest

from disback_plugin.errors import DataError
from disback_plugin.lab.data.images import open_images
from tests.lab.data.test_images import png, write_folder

PNG = png(np.zeros((4, 4, 3), np.uint8))


def table(**labels: object) -> bytes:
    return json.dumps(
        {"labels": [[f"{name}.png", label] for name, label in labels.items()]}
    ).encode()


def zipped(file, entries):
    """Entries under names as they are, which ZipInfo would clean."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, data)
    return file


LAYOUTS = {
    "backslashes of Windows": ({"n0\\a.png": PNG, "n1\\": b"", "n1\\a.PNG": PNG}, [0, 1]),
    "what macOS adds": (
        {"d/n0/a.png": PNG, "d/n1/a.png": PNG, "d/.DS_Store": b"", "__MACOSX/d/n0/._a.png": b""},
        [0, 1],
    ),
    "classes below a common folder": ({"p/q/n0/a.png": PNG, "p/q/n1/a.png": PNG}, [0, 1]),
    "a table below a common folder": (
        {
            "d/00000/a.png": PNG,
            "d/00000/b.png": PNG,
            "d/dataset.json": table(**{"00000/a": 7, "00000/b": 3}),
        },
        [7, 3],
    ),
    "a table with backslashes": (
        {"n/a.png": PNG, "n/b.png": PNG, "dataset.json": table(**{"n\\a": 1, "./n/b": 0})},
        [1, 0],
    ),
    "names that macOS decomposes": ({"e\u0301.png": PNG, "dataset.json": table(é=4)}, [4]),
    "classes by number": (
        {f"{number}/a.png": PNG for number in (0, 1, 2, 10)} | {"10/b.png": PNG},
        [0, 1, 2, 3, 3],
    ),
    "a class with a split's name": ({"car/a.png": PNG, "train/a.png": PNG}, [0, 1]),
    "one split alone": ({"train/n0/a.png": PNG, "train/n1/a.png": PNG}, [0, 1]),
    "entries from the current folder": ({"./n0/a.png": PNG, "./n1/a.png": PNG}, [0, 1]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_are_found_in_every_layout(tmp_path, layout):
    entries, labels = LAYOUTS[layout]
    assert open_images(zipped(tmp_path / "a.zip", entries)).labels.tolist() == labels
    plain = {name.replace("\\", "/"): data for name, data in entries.items() if name[-1] != "\\"}
    assert open_images(write_folder(tmp_path / "a", plain)).labels.tolist() == labels


REFUSED = {
    "splits over classes": (
        {"train/n0/a.png": PNG, "train/n1/a.png": PNG, "val/n0/a.png": PNG, "val/n1/a.png": PNG},
        r"train, val look like parts.*one part \(.*train.*\).* --labels FILE, or --labels none",
    ),
    "splits without classes": ({"train/a.png": PNG, "Validation/b.png": PNG}, "look like parts"),
    "one split beside another folder": (
        {"extra/a.png": PNG, "test2017/n0/a.png": PNG},
        "like parts",
    ),
    "splits in longer names": (
        {"ILSVRC2012_img_train/a.png": PNG, "ILSVRC2012_img_val/b.png": PNG},
        "ILSVRC2012_img_train, ILSVRC2012_img_val look like parts",
    ),
    "splits of two kinds": ({"trainA/a.png": PNG, "testB/b.png": PNG}, "look like parts"),
    "images and their masks": ({"images/a.png": PNG, "masks/a.png": PNG}, "look like parts"),
    "labels in another table": (
        {"a.png": PNG, "metadata.csv": b"file_name,label"},
        r"metadata\.csv could hold labels, .* --labels FILE, JSON .*, or pass --labels none",
    ),
    "one name in two spellings": (
        {"caf\u00e9/a.png": PNG, "cafe\u0301/b.png": PNG},
        "the same twice",
    ),
    "parts of unknown names": ({"one/n0/a.png": PNG, "two/n0/a.png": PNG}, "one, two look like"),
    "classes 1 and 01": ({"1/a.png": PNG, "01/a.png": PNG}, "01 and 1, the same twice"),
    "two tables": (
        {"dataset.json": table(a=0), "n/dataset.json": table(a=0), "n/a.png": PNG},
        r"has .*dataset\.json and .*dataset\.json: give one as --labels FILE",
    ),
    "a table below some images": (
        {"a.png": PNG, "n/dataset.json": table(b=0), "n/b.png": PNG},
        "does not lie above all images",
    ),
    "a table that names others": (
        {"a.png": PNG, "dataset.json": table(a=0, b=1, c=2, d=3, e=4)},
        r"has labels for 4 images not in .*: b\.png, c\.png, d\.png, \.\.\.",
    ),
    "a table that contradicts itself": (
        {"a.png": PNG, "dataset.json": b'{"labels": [["a.png", 0], ["a.png", 1]]}'},
        r"'a\.png' is there twice",
    ),
    "a table that nests without end": (
        {"a.png": PNG, "dataset.json": b"[" * 10**5},
        "not of the form",
    ),
    "other files alone": ({"a.npy": b"", "b.tiff": b""}, r"no images .*; it has 1 \.npy, 1 \.tiff"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_ambiguous_is_refused_from_folders_and_zips(tmp_path, case):
    entries, message = REFUSED[case]
    for source in (write_folder(tmp_path / "a", entries), zipped(tmp_path / "a.zip", entries)):
        with pytest.raises(DataError, match=message):
            open_images(source)


def test_what_was_decided_is_said_with_the_kinds_of_files_and_class_names(tmp_path):
    entries = {f"{number}/a.png": PNG for number in (1, 2, 10)}
    entries |= {"3/readme.txt": b"", "1/b.heic": b"", ".cache/c.png": PNG}
    source = open_images(write_folder(tmp_path / "a", entries))
    assert [text.replace(f"{tmp_path}/", "") for text in source.decided] == [
        "a: 3 images (3 .png); not read: 1 .heic, 1 .txt, 1 hidden",
        "order: by the numbers in the names, so 2/a.png before 10/a.png",
        "labels: from the class folders, by the numbers in the names, so 2 before 10; the folder "
        "1 is class 0, 2 is class 1, 10 is class 2; no class, without images: 3",
    ]
    assert source.sample(2) == f"{tmp_path}/a/10/a.png -> label 2 (10)"


def hostile(change):
    """A zip whose entries are changed as listed, central directory included."""

    def make(file):
        zipped(file, {"a.png": PNG, "b.png": PNG})
        with zipfile.ZipFile(file, "a") as archive:
            change(archive)
        return file

    return make


def _encrypted(archive):
    archive.infolist()[1].flag_bits |= 0x1
    archive._didModify = True


def _link(archive):
    info = zipfile.ZipInfo("c.png")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


ZIPS = {
    "encrypted": (hostile(_encrypted), r"entry b\.png is encrypted: unpack the zip"),
    "a link": (hostile(_link), r"entry c\.png is a link: unpack"),
    "out of it": (lambda file: zipped(file, {"n/../../a.png": PNG}), "leads out of the zip"),
    "one file twice": (lambda file: zipped(file, {"n/a.png": PNG, "n\\a.png": PNG}), "there twice"),
    "cut": (lambda file: file.write_bytes(b"PK\3\4 not all") and file, "is no whole zip"),
    "escapes": (lambda file: zipped(file, {"../\x1b[2J.png": PNG}), r"entry \.\./\\x1b\[2J\.png"),
}


@pytest.mark.parametrize("case", ZIPS)
def test_a_zip_that_cannot_be_trusted_is_refused(tmp_path, case):
    make, message = ZIPS[case]
    with pytest.raises(DataError, match=message):
        open_images(make(tmp_path / "a.zip"))


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("disback_plugin.lab.data.image_files.MAX_FILE", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10_000))
    with pytest.raises(DataError, match=r"a\.png: it has 10,000 bytes; at most 1,000"):
        list(open_images(tmp_path / "a.zip").rows(None))


def test_links_are_followed_and_loops_refused(tmp_path):
    real = write_folder(tmp_path / "real", {"cats/a.png": PNG, "dogs/b.png": PNG})
    farm = tmp_path / "farm"
    farm.mkdir()
    for name in ("cats", "dogs"):
        (farm / name).symlink_to(real / name)
    assert open_images(farm).labels.tolist() == [0, 1]
    (farm / "again").symlink_to(real / "cats")
    with pytest.raises(DataError, match=r"(again and cats|cats and again) are one folder"):
        open_images(farm)
    (farm / "again").unlink()
    (farm / "loop").symlink_to(farm)
    with pytest.raises(DataError, match=r"loop and \. are one folder"):
        open_images(farm)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    folder = write_folder(tmp_path / "a", {"a.png": PNG})
    (folder / "b.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"b\.png is a link to nothing"):
        open_images(folder)
    (folder / "b.png").unlink()
    os.mkfifo(folder / "b.png")
    for source, labels in (
        (folder, "auto"),
        (folder / "b.png", "auto"),
        (tmp_path, folder / "b.png"),
    ):
        with pytest.raises(DataError, match=r"b\.png is a pipe, not a file"):
            open_images(source, str(labels))
