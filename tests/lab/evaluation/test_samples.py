"""What is read of samples: pixels, seeds, and what `disback sample` says of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from disback_plugin.errors import DataError
from disback_plugin.lab.data.array_rows import ArrayRows
from disback_plugin.lab.evaluation.pixels import preparing
from disback_plugin.lab.evaluation.protocol import Pixels
from disback_plugin.lab.evaluation.protocols import get_protocol
from disback_plugin.lab.evaluation.samples import open_samples
from disback_plugin.sealed import write_sealed
from tests.lab.evaluation.conftest import pixels, save_folder


def test_a_folder_of_pngs_is_in_the_order_of_its_seeds(samples: Path) -> None:
    found, images = open_samples(samples), pixels(23, seed=1, shift=20)
    assert len(found) == 23
    assert found.seeds.tolist() == list(range(23))
    for number in (0, 10, 22):
        assert np.array_equal(found.load(number), images[number].transpose(2, 0, 1))


def test_files_named_by_their_seeds_have_these(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "later", pixels(3, seed=1))
    for number in range(3):
        (folder / f"{number:06d}.png").rename(folder / f"{number + 50_000:06d}.png")
    assert open_samples(folder).seeds.tolist() == [50_000, 50_001, 50_002]


def test_seeds_are_as_the_sampler_says_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", arr_0=pixels(3, seed=1))
    write_sealed(tmp_path / "s.json", {"seeds": {"first": 7, "last": 9}, "labels": "balanced"})
    found = open_samples(tmp_path / "s.npz")
    assert found.seeds.tolist() == [7, 8, 9]
    assert found.labels == "balanced"
    write_sealed(tmp_path / "s.json", {"seeds": {"first": 7, "last": 12}})
    with pytest.raises(DataError, match=r"3 images, its samples.json speaks of 6"):
        open_samples(tmp_path / "s.npz")


def test_samples_json_in_a_folder_is_checked(samples: Path) -> None:
    write_sealed(samples / "samples.json", {"seeds": {"first": 0, "last": 22}})
    assert open_samples(samples).said == {"seeds": {"first": 0, "last": 22}}
    text = (samples / "samples.json").read_text()
    (samples / "samples.json").write_text(text.replace("22", "21"))
    with pytest.raises(DataError, match="SHA-256 is not the one"):
        open_samples(samples)


def test_an_lmdb_is_read(lmdb: Path) -> None:
    found = open_samples(lmdb)
    assert len(found) == 40
    assert found.load(39).shape == (3, 8, 8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_of_an_array_come_in_any_order(tmp_path: Path, save) -> None:  # type: ignore[no-untyped-def]
    images = pixels(9, seed=3)
    save(tmp_path / "a.npz", arr_0=images)
    rows = ArrayRows(tmp_path / "a.npz", "arr_0")
    for number in (0, 1, 5, 2, 8, 8, 0):
        assert np.array_equal(rows.row(number), images[number])


def test_an_array_that_was_cut_off_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=pixels(9, seed=3))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"b.npz cannot be read"):
        open_samples(tmp_path / "b.npz")


def test_an_array_of_objects_or_of_floats_is_no_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", arr_0=np.array([print], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        open_samples(tmp_path / "o.npz")
    np.savez(tmp_path / "f.npz", arr_0=np.zeros((2, 4, 4, 3)))
    with pytest.raises(DataError, match="float64"):
        open_samples(tmp_path / "f.npz")


def photo(height: int, width: int) -> np.ndarray:
    """(3, height, width), smooth: a resize has something to interpolate."""
    y, x = np.mgrid[:height, :width]
    rows = [127 + 120 * np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(3)]
    return np.stack(rows).astype(np.uint8)


def test_unresized_pixels_are_left_alone() -> None:
    image = photo(20, 20)
    assert np.array_equal(preparing(get_protocol("edm").pixels)(image), image)
    grey = preparing(get_protocol("edm").pixels)(image[:1])
    assert grey.shape == (3, 20, 20)
    assert np.array_equal(grey[2], image[0])


def test_clean_pixels_are_clean_fids() -> None:
    image = photo(64, 64)
    resize = pytest.importorskip("cleanfid.resize").build_resizer("clean")
    expected = resize(image.transpose(1, 2, 0)).transpose(2, 0, 1)
    found = preparing(Pixels(resize="clean"))(image)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("size", [(50, 81), (81, 50), (64, 33)])
def test_squares_are_dmd2s(size: tuple[int, int]) -> None:
    """Its transform: torchvision's centre crop to the shorter side, Pillow's Lanczos."""
    crop = pytest.importorskip("torchvision.transforms.functional").center_crop
    image = photo(*size)
    whole = Image.fromarray(image.transpose(1, 2, 0))
    expected = crop(whole, [min(whole.size)] * 2).resize((32, 32), Image.Resampling.LANCZOS)
    found = preparing(Pixels(resize="inside", crop="square", size=32))(image)
    assert np.array_equal(found.transpose(1, 2, 0), np.asarray(expected))


def test_patches_are_the_centre_at_full_size() -> None:
    crop = pytest.importorskip("torchvision.transforms.functional").center_crop
    image = photo(40, 51)
    expected = np.asarray(crop(Image.fromarray(image.transpose(1, 2, 0)), [29, 29]))
    found = preparing(Pixels(resize="inside", crop="patch", size=29))(image)
    assert np.array_equal(found.transpose(1, 2, 0), expected)
    with pytest.raises(DataError, match="20 x 40 pixels; a patch of 29"):
        preparing(Pixels(resize="inside", crop="patch", size=29))(photo(40, 20))
