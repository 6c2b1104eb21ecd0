"""LMDB data sets: DMD2's keys and bytes, written whole or not at all, read in any process."""

import multiprocessing
import os
import pickle

import lmdb
import numpy as np
import pytest
import torch

from disback_plugin.data import (
    ImageLMDB,
    LatentLMDB,
    LMDBReader,
    SampleSource,
    write_image_lmdb,
    write_latent_lmdb,
)
from disback_plugin.errors import DataError

NUM = 12
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 3, 4, 6), dtype=np.uint8)
LABELS = [number % 5 for number in range(NUM)]
LATENTS = np.random.default_rng(1).standard_normal((NUM, 4, 2, 2)).astype(np.float32)
PROMPTS = ["a dog", "", "café 東京", *(f"prompt {number}" for number in range(3, NUM))]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    assert write_image_lmdb(folder, zip(IMAGES, LABELS, strict=True)) == NUM
    return folder


@pytest.fixture
def latents(tmp_path):
    folder = tmp_path / "latents"
    assert write_latent_lmdb(folder, zip(LATENTS, PROMPTS, strict=True)) == NUM
    return folder


def contents(folder) -> dict[bytes, bytes]:
    environment = lmdb.open(str(folder), readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def edit(folder, **entries: bytes | None) -> None:
    environment = lmdb.open(str(folder), lock=False)
    with environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            if value is None:
                transaction.delete(key.encode())
            else:
                transaction.put(key.encode(), value)


def files(folder) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


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


def test_images_come_back_in_minus_one_to_one_with_their_labels(images):
    source: SampleSource[torch.Tensor | None] = ImageLMDB(images)
    assert (len(source), source.data_shape, source.num_classes) == (NUM, (3, 4, 6), 5)
    samples, labels = source.batch(200, generator())
    assert (samples.dtype, labels.dtype, samples.shape) == (
        torch.float32,
        torch.int64,
        (200, 3, 4, 6),
    )
    index = torch.randint(NUM, (200,), generator=generator())
    pixels = torch.from_numpy(IMAGES)[index]
    assert torch.equal(((samples + 1) * 127.5).round().to(torch.uint8), pixels)
    assert torch.equal(labels, torch.tensor(LABELS)[index])
    black_and_white = np.stack([np.zeros((3, 1, 1), np.uint8), np.full((3, 1, 1), 255, np.uint8)])
    write_image_lmdb(images.parent / "two", zip(black_and_white, [0, 1], strict=True))
    samples, labels = ImageLMDB(images.parent / "two").batch(50, generator())
    assert samples[:, 0, 0, 0].tolist() == [2.0 * label - 1 for label in labels.tolist()]


def test_latents_come_back_as_float16_kept_them_with_their_prompts(latents):
    source: SampleSource[list[str]] = LatentLMDB(latents)
    assert (len(source), source.data_shape, source.num_classes) == (NUM, (4, 2, 2), 0)
    samples, prompts = source.batch(100, generator())
    index = torch.randint(NUM, (100,), generator=generator())
    assert samples.dtype == torch.float32
    assert torch.equal(samples, torch.from_numpy(LATENTS).half().float()[index])
    assert prompts == [PROMPTS[number] for number in index.tolist()]


def test_a_batch_depends_on_the_generator_alone(images):
    state, source = torch.get_rng_state(), ImageLMDB(images)
    first = source.batch(32, generator())[0]
    assert torch.equal(first, source.batch(32, generator())[0])
    assert not torch.equal(first, source.batch(32, generator(1))[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_images_without_labels_have_no_classes(tmp_path):
    write_image_lmdb(tmp_path / "plain", ((image, None) for image in IMAGES))
    source = ImageLMDB(tmp_path / "plain")
    assert (source.num_classes, source.labels, source.batch(2, generator())[1]) == (0, None, None)
    with pytest.raises(DataError, match="has no labels, but num_classes=5"):
        ImageLMDB(tmp_path / "plain", num_classes=5)


def test_a_subset_can_be_told_how_many_classes_there_are(images):
    assert ImageLMDB(images, num_classes=1000).num_classes == 1000
    with pytest.raises(DataError, match=r"labels are 0\.\.4, not 0\.\.2"):
        _ = ImageLMDB(images, num_classes=3).labels


def test_labels_of_shape_n_by_1_are_read_too(images):
    edit(images, labels_shape=b"12 1")
    assert ImageLMDB(images).labels.tolist() == LABELS


def test_the_map_grows_until_everything_fits(tmp_path):
    big = np.random.default_rng(0).integers(0, 256, (40, 3, 64, 64), dtype=np.uint8)
    rows = ((image, number) for number, image in enumerate(big))
    write_image_lmdb(tmp_path / "big", rows, map_size=1 << 16)
    assert (tmp_path / "big" / "data.mdb").stat().st_size > big.nbytes > 4 * (1 << 16)
    assert np.array_equal(LMDBReader(tmp_path / "big").rows("images", (3, 64, 64), range(40)), big)


def test_many_chunks_are_written_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr("disback_plugin.data.lmdb_writer.CHUNK_BYTES", 100)
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


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"images_shape": None}, "holds no images: it has no images_shape"),
        ({"images_shape": b"12 3 x"}, "images_shape is b'12 3 x', which is no shape"),
        ({"images_shape": b"12 72"}, r"images have shape \(72,\), not \(C, H, W\)"),
        ({"images_shape": b"13 3 4 6"}, "has no images_12_data"),
        (
            {"images_11_data": b"abc"},
            r"images_11_data has 3 bytes, but \(3, 4, 6\) as uint8 takes 72",
        ),
        ({"labels_shape": b"11"}, r"12 images, but labels of shape \(11,\)"),
        ({"labels_4_data": None}, "has 11 of the 12 rows of labels"),
        ({"labels_4_data": b"\1\0\0\0"}, r"labels_4_data has 4 bytes, but \(\) as int64 takes 8"),
        ({"labels_4_data": b"\xff" * 8}, r"labels are -1\.\.4"),
    ],
)
def test_what_is_missing_or_wrong_is_named(images, entries, message):
    edit(images, **entries)
    with pytest.raises(DataError, match=message):
        _ = ImageLMDB(images).labels


def test_a_missing_row_or_prompt_is_named_when_it_is_drawn(images, latents):
    edit(images, images_5_data=None)
    with pytest.raises(DataError, match="images has no images_5_data"):
        ImageLMDB(images).batch(200, generator())
    edit(latents, prompts_11_data=None)
    with pytest.raises(DataError, match="latents has no prompts_11_data"):
        LatentLMDB(latents)
    with pytest.raises(DataError, match="holds no latents"):
        LatentLMDB(images)


def test_damaged_files_are_refused_and_not_read_past_their_end(images):
    whole = (images / "data.mdb").read_bytes()
    (images / "data.mdb").write_bytes(whole[:-4096])
    with pytest.raises(DataError, match=r"data\.mdb is truncated: \d+ of \d+ bytes"):
        ImageLMDB(images)
    (images / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"cannot be opened: .*MDB_INVALID"):
        ImageLMDB(images)
    with pytest.raises(DataError, match=r"is no LMDB folder: it has no data\.mdb"):
        ImageLMDB(images.parent)


def test_a_source_travels_to_another_process_and_two_share_a_file(images):
    first, second = ImageLMDB(images), ImageLMDB(images)
    copy = pickle.loads(pickle.dumps(first))
    assert torch.equal(first.batch(9, generator())[0], second.batch(9, generator())[0])
    assert torch.equal(first.batch(9, generator())[0], copy.batch(9, generator())[0])


def _draw(source, drawn):
    inherited = source._reader._environment
    again = ImageLMDB(source.name)  # the same file once more, in the same process
    drawn.put([one.batch(9, generator())[0].numpy() for one in (source, again)])
    drawn.put(source._reader._environment is inherited)  # which LMDB forbids


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_source_open_here_can_be_read_by_forked_workers(images):
    source = ImageLMDB(images)
    here = source.batch(9, generator())[0].numpy()
    forking = multiprocessing.get_context("fork")
    drawn = forking.SimpleQueue()
    worker = forking.Process(target=_draw, args=(source, drawn))  # inherited, not pickled
    worker.start()
    worker.join(60)  # the pipe holds it all
    assert worker.exitcode == 0
    assert all(np.array_equal(there, here) for there in drawn.get())
    assert not drawn.get()
    assert np.array_equal(source.batch(9, generator())[0].numpy(), here)


def test_images_held_in_memory_are_drawn_as_from_the_disk(images):
    lmdb_images = ImageLMDB(images, num_classes=7)
    held = lmdb_images.load()
    assert (len(held), held.data_shape, held.num_classes) == (NUM, (3, 4, 6), 7)
    for one, other in zip(
        held.batch(20, generator()), lmdb_images.batch(20, generator()), strict=True
    ):
        assert torch.equal(one, other)


def test_images_without_labels_are_held_without(tmp_path):
    write_image_lmdb(tmp_path / "images", ((image, None) for image in IMAGES))
    held = ImageLMDB(tmp_path / "images").load()
    assert (held.labels, held.num_classes) == (None, 0)
