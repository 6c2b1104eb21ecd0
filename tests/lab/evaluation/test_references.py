"""A reference of another network, resize or format is refused; nothing in one is executed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from disback_plugin.errors import ConfigError, DataError
from disback_plugin.lab.evaluation.evaluate import Request, evaluate
from disback_plugin.lab.evaluation.making import make_reference
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.networks import FeatureNetwork, Inception, open_network
from disback_plugin.lab.evaluation.protocol import Pixels
from disback_plugin.lab.evaluation.protocols import get_protocol
from disback_plugin.lab.evaluation.references import read_reference
from disback_plugin.lab.evaluation.samples import open_samples


@pytest.fixture
def inception(network_file: Path) -> FeatureNetwork:
    """As if its file were the real one."""
    return Inception(network_file, "inception-2015-12-05", "0" * 64)


@pytest.fixture
def statistics() -> dict[str, np.ndarray]:
    rows = np.random.default_rng(0).normal(size=(40, 9))
    return {"mu": rows.mean(0), "sigma": np.cov(rows, rowvar=False)}


def saved(file: Path, **arrays: np.ndarray) -> Path:
    np.savez(file, **arrays)
    return file


def test_edms_statistics_are_read_by_edms_protocols(
    tmp_path: Path, statistics: dict[str, np.ndarray], inception: FeatureNetwork
) -> None:
    file = saved(tmp_path / "ffhq-64x64.npz", **statistics)
    for name in ("edm", "dmd2-imagenet"):
        found = read_reference(file, get_protocol(name), inception)
        assert np.array_equal(found.fits["pool"].mean.numpy(), statistics["mu"])
        assert np.array_equal(found.fits["pool"].covariance.numpy(), statistics["sigma"])
    for name in ("adm", "coco-256", "coco-512", "coco-lcm"):
        with pytest.raises(ConfigError, match=f"protocol {name} takes"):
            read_reference(file, get_protocol(name), inception)


def test_adms_batches_are_read_by_adms_protocol_alone(
    tmp_path: Path,
    statistics: dict[str, np.ndarray],
    inception: FeatureNetwork,
    samples: Path,
    place: Workplace,
) -> None:
    images = np.random.default_rng(1).integers(0, 255, (15, 12, 12, 3), dtype=np.uint8)
    spatial = np.eye(175)
    file = saved(
        tmp_path / "VIRTUAL.npz",
        arr_0=images, mu_s=np.zeros(175), sigma_s=spatial, **statistics,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="protocol edm takes only edm's"):
        read_reference(file, get_protocol("edm"), inception)
    found = read_reference(file, get_protocol("adm"), inception)
    request = Request(protocol=get_protocol("adm"), network=inception, smoke=True)
    numbers = evaluate(open_samples(samples), found, request, place).numbers
    assert list(numbers) == ["FID", "sFID", "IS", "precision", "recall"]
    own = evaluate(open_samples(file), found, request, replace(place, folder=tmp_path / "own"))
    assert (own.numbers["precision"], own.numbers["recall"]) == (1.0, 1.0)  # against arr_0


def test_a_batch_without_statistics_is_its_own_data_set(
    tmp_path: Path, inception: FeatureNetwork, samples: Path, real: Path, place: Workplace
) -> None:
    request = Request(protocol=get_protocol("adm"), network=inception, smoke=True)
    found = read_reference(real, get_protocol("adm"), inception)
    numbers = evaluate(open_samples(real), found, request, place).numbers
    assert numbers["FID"] == pytest.approx(0, abs=1e-9)
    assert numbers["sFID"] == pytest.approx(0, abs=1e-6)


def test_published_statistics_are_not_compared_with_other_features(
    tmp_path: Path, statistics: dict[str, np.ndarray]
) -> None:
    file = saved(tmp_path / "ffhq-64x64.npz", **statistics)
    pixels = open_network("inception-2015-12-05", None, "pixels")
    with pytest.raises(ConfigError, match="features are of pixels"):
        read_reference(file, get_protocol("edm"), pixels)


def test_clean_fids_statistics_are_told_by_their_name(
    tmp_path: Path, statistics: dict[str, np.ndarray], inception: FeatureNetwork
) -> None:
    file = saved(tmp_path / "ffhq_clean_trainval_1024.npz", **statistics)
    with pytest.raises(ConfigError, match="named like clean-fid's"):
        read_reference(file, get_protocol("edm"), inception)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sigma": np.eye(8)}, r"\(9,\) and sigma \(8, 8\)"),
        ({"sigma": np.triu(np.ones((9, 9)))}, "not symmetric"),
        ({"mu": np.full(9, np.nan)}, "not finite"),
        ({"mu": np.array([print] * 9, dtype=object)}, "Python objects"),
    ],
    ids=["shape", "symmetry", "nan", "objects"],
)
def test_what_is_no_statistics_is_refused(
    tmp_path: Path,
    statistics: dict[str, np.ndarray],
    inception: FeatureNetwork,
    change: dict[str, np.ndarray],
    complaint: str,
) -> None:
    file = saved(tmp_path / "bad.npz", **{**statistics, **change})
    with pytest.raises(DataError, match=complaint):
        read_reference(file, get_protocol("edm"), inception)


def test_a_reference_of_another_network_or_resize_is_refused(
    tmp_path: Path, network: FeatureNetwork, real: Path, place: Workplace
) -> None:
    protocol, file = get_protocol("edm"), tmp_path / "own.safetensors"
    request = Request(protocol=protocol, network=network, smoke=True)
    make_reference(open_samples(real), request, place, file)
    assert read_reference(file, protocol, network).made_with["num_images"] == 31
    # other names, one network and one way with pixels: that compares
    assert read_reference(file, get_protocol("adm"), network).fits.keys() >= {"pool"}
    resized = replace(protocol, pixels=Pixels(resize="clean"))
    with pytest.raises(ConfigError, match="made with another pixels: unresized, by the network"):
        read_reference(file, resized, network)
    with pytest.raises(ConfigError, match="made with another network"):
        read_reference(file, protocol, open_network("inception-2015-12-05", None, "pixels"))
    other = Inception(Path(request_file(network)), network.name, "1" * 64)
    with pytest.raises(ConfigError, match="another network sha256"):
        read_reference(file, protocol, other)


def request_file(network: FeatureNetwork) -> str:
    return str(network.file)  # type: ignore[attr-defined]


def test_a_flipped_bit_in_our_own_is_found(
    tmp_path: Path, network: FeatureNetwork, real: Path, place: Workplace
) -> None:
    request = Request(protocol=get_protocol("edm"), network=network, smoke=True)
    make_reference(open_samples(real), request, place, tmp_path / "own.safetensors")
    content = bytearray((tmp_path / "own.safetensors").read_bytes())
    content[-3] ^= 4
    (tmp_path / "own.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_reference(tmp_path / "own.safetensors", get_protocol("edm"), network)


def test_a_protocol_with_a_number_of_real_images_wants_these(
    tmp_path: Path, network: FeatureNetwork, real: Path, place: Workplace
) -> None:
    request = Request(protocol=get_protocol("coco-lcm"), network=network)
    with pytest.raises(DataError, match="31 images, protocol coco-lcm compares with 50,000"):
        make_reference(open_samples(real), request, place, tmp_path / "own.safetensors")


def test_the_patches_are_measured_apart(
    tmp_path: Path, network: FeatureNetwork, place: Workplace
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (6, 320, 310, 3), dtype=np.uint8)
    np.savez(tmp_path / "large.npz", arr_0=images)
    large = open_samples(tmp_path / "large.npz")
    request = Request(
        protocol=get_protocol("coco-512"), network=network, smoke=True, numbers=("FID", "patch FID")
    )
    make_reference(large, request, place, tmp_path / "own.safetensors")
    found = read_reference(tmp_path / "own.safetensors", request.protocol, network)
    assert sorted(found.fits) == ["patch", "pool", "spatial"]
    assert not torch.equal(found.fits["patch"].mean, found.fits["pool"].mean)
    numbers = evaluate(large, found, request, replace(place, folder=tmp_path / "w")).numbers
    assert list(numbers.values()) == pytest.approx([0, 0], abs=1e-9)
