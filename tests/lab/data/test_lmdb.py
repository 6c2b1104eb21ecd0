"""LMDB data sets as sources of samples: what they hold, damage named, read in any process."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest
import torch

from disback_plugin.errors import DataError
from disback_plugin.lab.data import ImageLMDB, LatentLMDB, SampleSource, write_image_lmdb
from tests.lab.data.lmdb_folders import IMAGES, LABELS, LATENTS, NUM, PROMPTS, edit, generator


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
        ({"labels_4_data": None, "labels_05_data": bytes(8)}, "has 11 of the 12 rows of labels"),
        ({"images_shape": b"9000000000000 3 4 6"}, r"9,000,000,000,000 rows, but 26 keys are"),
        ({"images_shape": b"12 3 4000000000 6000000"}, r"images_0_data has 72 bytes, but \(3, 4"),
        ({"images_shape": b"9" * 5000}, "which is no shape"),
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


def test_a_prompt_that_is_no_text_is_named(latents):
    edit(latents, prompts_3_data=b"caf\xe9")
    with pytest.raises(DataError, match="latents: one of prompts is no text in UTF-8"):
        LatentLMDB(latents).prompts(range(NUM))


@pytest.mark.parametrize("size", [0, 10, 4096, 5000])
def test_a_file_cut_anywhere_is_named(images, size):
    file = images / "data.mdb"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DataError, match=r"data\.mdb (cannot be opened|is truncated)"):
        ImageLMDB(images)
    with pytest.raises(DataError, match="give the folder that holds it"):
        ImageLMDB(file)


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
