"""LMDB data sets: DMD2's keys and bytes, written whole or not at all."""

import numpy as np
import pytest

from disback_plugin.errors import DataError
from disback_plugin.lab.data import ImageLMDB, LMDBReader, write_image_lmdb, write_latent_lmdb
from tests.lab.data.lmdb_folders import IMAGES, LABELS, LATENTS, NUM, contents, files


def test_images_have_the_keys_and_bytes_that_dmd2_reads(images):
    stored = contents(images)
    assert len(stored) == 2 * NUM + 2
    assert stored[b"images_shape"] == b"12 3 4 6"
    assert stored[b"labels_shape"] == b"12"
    assert stored[b"images_11_data"] == IMAGES[11].tobytes()
    assert stored[b"labels_3_data"] == b"\3\0\0\0\0\0\0\0"


def test_latents_have_the_keys_and_bytes_that_dmd2_reads(latents):
    stored = contents(latents)
    assert len(stored) == 2 * NUM + 1
    assert stored[b"latents_shape"] == b"12 4 2 2"
    assert stored[b"latents_7_data"] == LATENTS[7].astype("<f2").tobytes()
    assert stored[b"prompts_2_data"] == "café 東京".encode()
    assert stored[b"prompts_1_data"] == b""


def test_nothing_but_the_data_is_left_on_disk(images, tmp_path):
    assert files(tmp_path) == ["images", "images/data.mdb"]


def test_the_map_grows_until_everything_fits(tmp_path):
    big = np.random.default_rng(0).integers(0, 256, (40, 3, 64, 64), dtype=np.uint8)
    rows = ((image, number) for number, image in enumerate(big))
    write_image_lmdb(tmp_path / "big", rows, map_size=1 << 16)
    assert (tmp_path / "big" / "data.mdb").stat().st_size > big.nbytes > 4 * (1 << 16)
    assert np.array_equal(LMDBReader(tmp_path / "big").rows("images", (3, 64, 64), range(40)), big)


def test_many_chunks_are_written_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr("disback_plugin.lab.data.lmdb_writer.CHUNK_BYTES", 100)
    write_image_lmdb(tmp_path / "chunks", zip(IMAGES, LABELS, strict=True))
    monkeypatch.undo()
    write_image_lmdb(tmp_path / "one", zip(IMAGES, LABELS, strict=True))
    assert contents(tmp_path / "chunks") == contents(tmp_path / "one")


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_an_interrupted_writer_leaves_nothing(tmp_path, error):
    def rows():
        yield IMAGES[0], 0
        raise error

    with pytest.raises(error):
        write_image_lmdb(tmp_path / "out", rows())
    assert files(tmp_path) == []


def test_what_is_there_stays_unless_it_is_replaced_in_one_go(images, tmp_path):
    before = (images / "data.mdb").read_bytes()

    def interrupted():
        yield IMAGES[0], 0
        raise KeyboardInterrupt

    with pytest.raises(DataError, match=r"images exists; choose another name, or .*--force"):
        write_image_lmdb(images, [(IMAGES[0], 0)])
    with pytest.raises(KeyboardInterrupt):
        write_image_lmdb(images, interrupted(), replace=True)
    assert (images / "data.mdb").read_bytes() == before
    (images / "lock.mdb").touch()  # what a writer of another program leaves
    write_image_lmdb(images, [(IMAGES[7], 0)], replace=True)
    assert len(ImageLMDB(images)) == 1
    assert files(tmp_path) == ["images", "images/data.mdb"]


def test_what_appears_meanwhile_is_not_replaced(tmp_path):
    def rows():
        yield IMAGES[0], 0
        write_image_lmdb(tmp_path / "other", [(IMAGES[1], 1)] * 3)
        (tmp_path / "other").rename(tmp_path / "out")

    with pytest.raises(DataError, match="out exists"):
        write_image_lmdb(tmp_path / "out", rows())
    assert files(tmp_path) == ["out", "out/data.mdb"]
    assert len(ImageLMDB(tmp_path / "out")) == 3


def test_a_folder_with_other_things_is_never_replaced(images, tmp_path):
    (images / "notes.txt").write_text("mine")
    (tmp_path / "home").mkdir()
    for folder in (images, tmp_path / "home"):
        with pytest.raises(DataError, match="no LMDB folder alone, so it is not replaced"):
            write_image_lmdb(folder, [(IMAGES[0], 0)], replace=True)
    assert (images / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "nothing to write"),
        (
            [(IMAGES[0], 0), (IMAGES[0, :, :2], 0)],
            r"row 1 of images .*\(3, 2, 6\), but row 0 .*\(3, 4, 6\)",
        ),
        ([(IMAGES[0], 0), (IMAGES[0], None)], "row 1 has images, but row 0 has images, labels"),
        ([(IMAGES[0].astype(np.float32), 0)], "image 0 is float32"),
        ([(IMAGES[0, 0], 0)], r"image 0 is uint8 \(4, 6\)"),
    ],
)
def test_rows_that_do_not_go_together_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        write_image_lmdb(tmp_path / "out", rows)
    assert files(tmp_path) == []


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_latents_beyond_float16_are_refused(tmp_path, value):
    with pytest.raises(DataError, match="latent 0 is not finite as float16"):
        write_latent_lmdb(tmp_path / "out", [(np.full((4, 2, 2), value), "a")])
