"""The numbers are the libraries', and the same however the work was cut."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg

from disback_plugin.errors import ConfigError, DataError
from disback_plugin.lab.evaluation.evaluate import Request, evaluate, ranges_of
from disback_plugin.lab.evaluation.feature_store import FeatureStore
from disback_plugin.lab.evaluation.making import make_reference
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.networks import FeatureNetwork, open_network
from disback_plugin.lab.evaluation.protocols import get_protocol
from disback_plugin.lab.evaluation.references import Reference, read_reference
from disback_plugin.lab.evaluation.samples import Images, open_samples
from disback_plugin.lab.metrics import inception_score, kernel_distance, precision_recall
from disback_plugin.lab.results.evaluations import read_evaluation, write_evaluation
from tests.lab.evaluation.conftest import pixels, save_folder, save_zip

ALL = ("FID", "sFID", "KID", "IS", "precision", "recall")


@pytest.fixture
def adm(network: FeatureNetwork) -> Request:
    return Request(protocol=get_protocol("adm"), network=network, smoke=True, numbers=ALL)


@pytest.fixture
def reference(real: Path, adm: Request, tmp_path: Path) -> Reference:
    place = Workplace(folder=tmp_path / "reference", device=torch.device("cpu"))
    make_reference(open_samples(real), adm, place, tmp_path / "reference.safetensors")
    return read_reference(tmp_path / "reference.safetensors", adm.protocol, adm.network)


def features_of(images: np.ndarray, network: FeatureNetwork, layer: str = "pool") -> torch.Tensor:
    whole = torch.from_numpy(images).permute(0, 3, 1, 2)
    return network.features(whole, ("pool", "spatial"))[layer]


def test_the_numbers_are_those_of_the_libraries(
    samples: Path,
    reference: Reference,
    adm: Request,
    place: Workplace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = pytest.importorskip("cleanfid.fid")
    network = adm.network
    found = evaluate(open_samples(samples), reference, adm, place)
    own, real = pixels(23, seed=1, shift=20), pixels(31, seed=2)
    mine, theirs = features_of(own, network), features_of(real, network)
    spatial = [features_of(images, network, "spatial") for images in (own, real)]

    def named(number: str) -> float:
        return found.numbers[f"{number} ({network.name})"]

    # clean-fid's call of sqrtm, which SciPy 1.18 no longer takes; we use its resize alone
    root = SimpleNamespace(sqrtm=lambda matrix, disp: (linalg.sqrtm(matrix), 0.0))
    monkeypatch.setattr(clean, "linalg", root)
    expected = clean.fid_from_feats(mine.double().numpy(), theirs.double().numpy())
    assert named("Frechet distance") == pytest.approx(expected, rel=1e-6)
    assert named("Frechet distance") == pytest.approx(edm_formula(mine, theirs), rel=1e-6)
    assert named("spatial Frechet distance") == pytest.approx(edm_formula(*spatial), rel=1e-5)
    assert named("kernel distance") == pytest.approx(kernel_distance(mine, theirs), rel=1e-4)
    expected = inception_score([network.classes(mine)])
    assert named("classifier score") == pytest.approx(expected, rel=1e-6)
    overlap = precision_recall(mine.double(), theirs.double())
    assert (named("precision"), named("recall")) == pytest.approx(tuple(overlap), abs=1e-9)


def edm_formula(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    """|mu - mu_ref|^2 + tr(S + S_ref - 2 (S S_ref)^1/2), by a general matrix root."""
    a, b = mine.double().numpy(), theirs.double().numpy()
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(first @ second)
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    return float(np.real(shift + np.trace(first + second - 2 * root)))


def test_a_folder_a_zip_and_an_array_give_the_same_numbers(
    samples: Path, reference: Reference, adm: Request, tmp_path: Path
) -> None:
    np.savez_compressed(tmp_path / "samples.npz", arr_0=pixels(23, seed=1, shift=20))
    forms = [samples, save_zip(tmp_path / "samples.zip", samples), tmp_path / "samples.npz"]
    results = []
    for number, form in enumerate(forms):
        place = Workplace(folder=tmp_path / str(number), device=torch.device("cpu"))
        results.append(evaluate(open_samples(form), reference, adm, place))
    assert results[0].numbers == results[1].numbers == results[2].numbers
    assert len({result.samples["pixels_sha256"] for result in results}) == 1


def test_three_processes_and_a_kill_change_no_bit(
    samples: Path,
    reference: Reference,
    adm: Request,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = open_samples(samples)
    whole = Workplace(folder=tmp_path / "one", device=torch.device("cpu"))
    expected = evaluate(images, reference, adm, whole)

    shared = tmp_path / "three"
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write", killed_at(2, FeatureStore.write))
        with pytest.raises(KeyboardInterrupt):
            evaluate(images, reference, adm, replace(whole, folder=shared))
    left = sorted(file.name for file in (shared / "samples").iterdir())
    assert left == ["shard_000000.safetensors"]
    before = (shared / "samples" / left[0]).stat().st_mtime_ns
    for rank in (2, 0):  # each sees to its own share, and here does not wait for the others
        with pytest.raises(DataError, match="lacks shard 1"):
            evaluate(images, reference, adm, replace(whole, folder=shared, share=(rank, 3)))
    found = evaluate(images, reference, adm, replace(whole, folder=shared, share=(1, 3)))
    assert found == expected
    assert (shared / "samples" / left[0]).stat().st_mtime_ns == before


def killed_at(number: int, write):  # type: ignore[no-untyped-def]
    count = iter(range(1, 99))

    def instead(*arguments, **more) -> None:  # type: ignore[no-untyped-def]
        if next(count) == number:
            raise KeyboardInterrupt
        write(*arguments, **more)

    return instead


def test_features_of_other_images_are_not_taken_up(
    samples: Path, reference: Reference, adm: Request, place: Workplace, tmp_path: Path
) -> None:
    other = save_folder(tmp_path / "other", pixels(23, seed=7))
    first = evaluate(open_samples(samples), reference, adm, place)
    second = evaluate(open_samples(other), reference, adm, place)
    assert first.numbers != second.numbers


def test_a_damaged_shard_is_named(
    samples: Path, reference: Reference, adm: Request, place: Workplace
) -> None:
    evaluate(open_samples(samples), reference, adm, place)
    file = place.folder / "samples" / "shard_000001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"shard_000001.*delete it"):
        evaluate(open_samples(samples), reference, adm, place)


def with_seeds(seeds: np.ndarray) -> Images:
    nothing = np.zeros((3, 4, 4), np.uint8)
    return Images(
        path=Path("samples"), num=len(seeds), load=lambda i: nothing, identity="", seeds=seeds
    )


def test_edms_ranges_are_those_that_the_samples_hold_whole() -> None:
    protocol = replace(get_protocol("edm"), num_images=4, seed_ranges=((0, 4), (4, 8), (8, 12)))
    seeds = np.array([9, 3, 2, 1, 0, 4, 5, 6, 7, 8])  # of 8-11 two are missing
    found = ranges_of(with_seeds(seeds), protocol, smoke=False)
    assert {name: sorted(seeds[rows]) for name, rows in found.items()} == {
        "0-3": [0, 1, 2, 3],
        "4-7": [4, 5, 6, 7],
    }


def test_the_real_ranges_are_edms() -> None:
    assert get_protocol("edm").seed_ranges == ((0, 50000), (50000, 100000), (100000, 150000))
    found = ranges_of(with_seeds(np.arange(150_000)), get_protocol("edm"), smoke=False)
    assert [(rows[0], rows[-1]) for rows in found.values()] == [
        (0, 49_999),
        (50_000, 99_999),
        (100_000, 149_999),
    ]


def test_too_few_images_are_no_result_unless_it_is_a_smoke_test() -> None:
    few = with_seeds(np.arange(10))
    with pytest.raises(DataError, match=r"10 images, protocol edm takes 50,000"):
        ranges_of(few, get_protocol("edm"), smoke=False)
    assert list(ranges_of(few, get_protocol("edm"), smoke=True)) == ["all"]


def test_the_smallest_range_is_the_result_and_all_are_told(
    samples: Path, reference: Reference, adm: Request, place: Workplace
) -> None:
    ranges = ((0, 10), (10, 20))
    protocol = replace(adm.protocol, num_images=10, seed_ranges=ranges, numbers=("FID",))
    request = replace(adm, protocol=protocol, numbers=("FID",), smoke=False)
    found = evaluate(open_samples(samples), reference, request, place)
    (name,) = found.numbers
    values = [numbers[name] for numbers in found.ranges.values()]
    assert list(found.ranges) == ["0-9", "10-19"]
    assert found.numbers[name] == min(values) < max(values)
    assert found.summary[name]["mean"] == pytest.approx(sum(values) / 2)
    assert found.summary[name]["spread"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert found.num_images == 20


def test_a_result_comes_back_from_its_file(
    samples: Path, reference: Reference, adm: Request, place: Workplace, tmp_path: Path
) -> None:
    found = evaluate(open_samples(samples), reference, adm, place)
    write_evaluation(tmp_path / "result.json", found)
    assert read_evaluation(tmp_path / "result.json") == found
    assert found.network["sha256"] == adm.network.digest
    assert found.smoke


def test_what_is_no_inception_is_called_no_fid(
    samples: Path, real: Path, place: Workplace, tmp_path: Path
) -> None:
    pixels_alone = open_network("inception-2015-12-05", None, "pixels")
    request = Request(protocol=get_protocol("adm"), network=pixels_alone, smoke=True)
    make_reference(open_samples(real), request, place, tmp_path / "r.safetensors")
    reference = read_reference(tmp_path / "r.safetensors", request.protocol, pixels_alone)
    found = evaluate(open_samples(samples), reference, request, place)
    names = {"Frechet distance (pixels)", "precision (pixels)", "recall (pixels)"}
    assert set(found.numbers) == names
    assert any("gives no sFID, IS" in remark for remark in found.remarks)


def test_features_that_are_asked_for_and_not_there_are_an_error(adm: Request) -> None:
    pixels_alone = open_network("inception-2015-12-05", None, "pixels")
    with pytest.raises(ConfigError, match="gives no sFID, IS: leave it out"):
        _ = replace(adm, network=pixels_alone).chosen


def test_images_of_two_sizes_are_refused(
    reference: Reference, adm: Request, place: Workplace, tmp_path: Path
) -> None:
    folder = save_folder(tmp_path / "mixed", pixels(4, seed=1))
    Image.fromarray(pixels(1, seed=1)[0, :9]).save(folder / "000009.png")
    with pytest.raises(DataError, match="images of one size"):
        evaluate(open_samples(folder), reference, adm, place)
