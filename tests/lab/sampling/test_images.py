"""Which images `disback sample` makes, and that nothing but the seed decides it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from disback_plugin.errors import CheckpointError, ConfigError, DataError
from disback_plugin.lab.sampling import Plan, find_samples, sample
from disback_plugin.lab.sampling.draws import SeededDraws
from disback_plugin.pretrained import load_denoiser
from tests.lab.sampling.conftest import Make, expected_bytes


def images_in(folder: Path) -> dict[int, np.ndarray]:
    return {int(file.stem): np.asarray(Image.open(file)) for file in folder.glob("*.png")}


def test_image_i_is_the_network_once_on_noise_and_label_of_seed_i(
    sampler: Make, edm: Path, tmp_path: Path
) -> None:
    """The noise first, then the label, as NVlabs/edm's generate.py draws them for a seed."""
    sample(sampler("5-8"), tmp_path / "out", batch_size=4)
    zs, labels = [], []
    for seed in range(5, 9):
        generator = torch.Generator("cpu").manual_seed(seed)
        zs.append(torch.randn(3, 8, 8, generator=generator))
        labels.append(int(torch.randint(5, (), generator=generator)))
    assert len(set(labels)) > 1
    denoiser = load_denoiser(f"edm-pkl:{edm}")
    with torch.no_grad():
        x0 = denoiser(80.0 * torch.stack(zs), torch.full((4,), 80.0), torch.tensor(labels))
    found = images_in(tmp_path / "out")
    assert sorted(found) == [5, 6, 7, 8]
    wanted = expected_bytes(x0).numpy()
    for row, seed in enumerate(range(5, 9)):
        assert np.array_equal(found[seed], wanted[row])
    assert len({image.tobytes() for image in found.values()}) == 4


@pytest.mark.parametrize(("seeds", "batch"), [("0-9", 3), ("0-9", 10), ("2-7", 1), ("6-9", 64)])
def test_range_and_batch_size_do_not_change_an_image(
    seeds: str, batch: int, sampler: Make, tmp_path: Path
) -> None:
    sample(sampler("0-9"), tmp_path / "whole", batch_size=4)
    sample(sampler(seeds), tmp_path / "other", batch_size=batch)
    whole, other = images_in(tmp_path / "whole"), images_in(tmp_path / "other")
    for seed, image in other.items():
        assert np.array_equal(image, whole[seed]), seed


def test_a_batch_is_filled_up_so_that_the_network_always_sees_one_shape() -> None:
    draws = SeededDraws((1, 2, 2), 0, None)
    batches = list(draws.batches([[3, 4, 5], [6]], 3))
    assert [(list(b.seeds), tuple(b.z.shape)) for b in batches] == [
        ([3, 4, 5], (3, 1, 2, 2)),
        ([6], (3, 1, 2, 2)),
    ]
    assert torch.equal(batches[1].z[0], draws.one(6)[0])


@pytest.mark.parametrize(
    ("rule", "wanted"), [("balanced", [3, 4, 0, 1]), (2, [2, 2, 2, 2])], ids=str
)
def test_labels_by_rule(rule: str | int, wanted: list[int]) -> None:
    draw = SeededDraws((1,), 5, rule).batch([3, 4, 5, 6], 4)  # type: ignore[arg-type]
    assert draw.labels is not None
    assert draw.labels.tolist() == wanted


def test_folder_npz_and_zip_hold_the_same_images_and_say_so(sampler: Make, tmp_path: Path) -> None:
    made = [sample(sampler(), tmp_path / name, 4) for name in ("png", "all.npz", "all.zip")]
    assert len({samples.images_sha256 for samples in made}) == 1
    array = np.load(tmp_path / "all.npz")["arr_0"]
    assert array.dtype == np.uint8
    assert array.shape == (10, 8, 8, 3)
    folder = images_in(tmp_path / "png")
    assert all(np.array_equal(array[seed], folder[seed]) for seed in range(10))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("all.grid.png", "all.json", "all.npz", "all.zip", "png", "png.grid.png")
    ]
    for name, samples in zip(("png", "all.npz", "all.zip"), made, strict=True):
        assert find_samples(tmp_path / name) == samples
        assert (samples.count, samples.labels, samples.shape) == (10, "random", (8, 8, 3))


def test_the_grid_shows_the_first_images(sampler: Make, tmp_path: Path) -> None:
    sample(sampler("0-4"), tmp_path / "out", 4, grid=4)
    found = images_in(tmp_path / "out")
    picture = np.asarray(Image.open(tmp_path / "out.grid.png"))
    assert picture.shape == (17, 17, 3)
    assert np.array_equal(picture[9:, :8], found[2])
    assert (picture[8] == 255).all()


def test_what_decides_the_images_is_compared_and_nothing_else(
    sampler: Make, tmp_path: Path
) -> None:
    first = sample(sampler("0-3"), tmp_path / "out", 4)
    again = sample(sampler("0-3"), tmp_path / "out", 2)
    assert again == first
    with pytest.raises(DataError, match="holds other images .*sigma.*give another --out"):
        sample(sampler("0-3", sigma=40.0), tmp_path / "out", 4)
    with pytest.raises(DataError, match="holds other images .seeds: "):
        sample(sampler("0-4"), tmp_path / "out", 4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="is there already, and not by `disback sample`"):
        sample(sampler("0-3"), tmp_path / "mine", 4)


def test_a_student_whose_source_does_not_say_how_it_is_asked_needs_to_be_told(
    sampler: Make,
) -> None:
    with pytest.raises(ConfigError, match=r"does not tell at which noise level .* --sigma 80"):
        sampler(sigma=None)


def test_what_does_not_fit_the_student_is_said(sampler: Make, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat")
    with pytest.raises(ConfigError, match="takes no prompts"):
        sampler(prompts=tmp_path / "p.txt")
    with pytest.raises(ConfigError, match="label 5 is none of the student's 5 classes"):
        sampler(labels="5")
    with pytest.raises(ConfigError, match="seeds 9-3 run backwards"):
        sampler("9-3")
    with pytest.raises(CheckpointError, match="no such file"):
        sampler(spec="edm-pkl:none")


def test_a_plan_written_and_read_is_the_same(sampler: Make) -> None:
    plan = sampler("7").plan
    assert Plan(**plan.model_dump(mode="json")) == plan
    assert plan.num_images == 1
