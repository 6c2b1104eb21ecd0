"""Network files are found where they were put, verified, never fetched; others are named."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from disback_plugin.errors import ConfigError, DataError
from disback_plugin.lab.evaluation import network_files
from disback_plugin.lab.evaluation.network_files import INCEPTION, find_file
from disback_plugin.lab.evaluation.networks import FeatureNetwork, Inception, open_network
from disback_plugin.lab.metrics import ImageClassifier

NAME = "inception-2015-12-05"


def images(num: int = 3, side: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, side, side), generator=generator, dtype=torch.uint8)


def test_inceptions_file_is_the_one_that_edm_and_clean_fid_use() -> None:
    digest = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
    assert (INCEPTION.file, INCEPTION.sha256) == ("inception-2015-12-05.pt", digest)


def test_what_is_missing_is_told_with_its_digest_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISBACK_NETWORKS", raising=False)
    for folder in (None, tmp_path):
        with pytest.raises(DataError) as told:
            open_network(NAME, folder, None)
        for part in (
            INCEPTION.file,
            INCEPTION.sha256,
            "https://",
            "--networks",
            "DISBACK_NETWORKS",
        ):
            assert part in str(told.value)


def test_another_file_of_that_name_is_not_opened(
    tmp_path: Path, network_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = network_file.read_bytes()
    (tmp_path / INCEPTION.file).write_bytes(content)
    with pytest.raises(DataError, match=f"its SHA-256 is {hashlib.sha256(content).hexdigest()}"):
        open_network(NAME, tmp_path, None)
    known = replace(INCEPTION, sha256=hashlib.sha256(content).hexdigest())
    assert find_file(known, tmp_path) == tmp_path / INCEPTION.file
    monkeypatch.setenv(network_files.FOLDER, str(tmp_path))
    assert find_file(known, None) == tmp_path / INCEPTION.file


def test_the_file_in_clean_fids_temp_folder_is_not_looked_at(
    network_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / INCEPTION.file).write_bytes(network_file.read_bytes())
    monkeypatch.delenv("DISBACK_NETWORKS", raising=False)
    with pytest.raises(DataError, match="no folder is given"):
        open_network(NAME, None, None)


def test_blocks_give_what_the_whole_network_gives(network: FeatureNetwork) -> None:
    """The layers one by one, after torch-fidelity's resize: the same as `return_features=True`."""
    whole = network.features(images(), ("pool",))["pool"]
    by_blocks = network.features(images(), ("pool", "spatial"))
    assert torch.allclose(by_blocks["pool"], whole, rtol=1e-4, atol=1e-5)
    assert by_blocks["spatial"].shape == (3, 7 * 5 * 5)


def test_spatial_features_are_channels_last_as_in_tensorflow(network: FeatureNetwork) -> None:
    assert isinstance(network, Inception)
    inner = images(side=299).float()
    found = network.features(inner, ("pool", "spatial"))["spatial"]
    x = network._blocks["conv"]((inner - 128) / 128)
    expected = network._blocks["mixed_6"].conv(x)[:, :7].permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(found, expected)


def test_classes_are_without_the_last_layers_bias(network: FeatureNetwork) -> None:
    pool = network.features(images(), ("pool",))["pool"]
    classes = network.classes(pool)
    weight = network._net.output.weight  # type: ignore[attr-defined]
    assert torch.allclose(classes, (pool @ weight.T).softmax(1))
    assert torch.allclose(classes.sum(1), torch.ones(3))


def test_a_classifier_of_a_run_gives_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = ImageClassifier(3, 4, 5).eval()
    classifier.save(tmp_path / "c.safetensors")
    network = open_network(NAME, None, f"classifier:{tmp_path / 'c.safetensors'}")
    found = network.features(images(), ("pool",))["pool"]
    assert torch.equal(found, classifier.features(images().float() / 127.5 - 1))
    assert network.name == "classifier:c.safetensors"


def test_any_function_gives_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_features.py").write_text(
        "def means(images): return images.float().mean((2, 3))\ndef wrong(images): return images\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = open_network(NAME, None, "own_features:means")
    assert torch.equal(network.features(images(), ("pool",))["pool"], images().float().mean((2, 3)))
    with pytest.raises(ConfigError, match=r"gave \(3, 3, 20, 20\) for 3 images"):
        open_network(NAME, None, "own_features:wrong").features(images(), ("pool",))
    del sys.modules["own_features"]


@pytest.mark.parametrize("what", ["pixel", "classifier:", "no_such_module:f", "math:no_such"])
def test_features_that_are_none_are_refused(what: str) -> None:
    with pytest.raises(ConfigError, match="--features"):
        open_network(NAME, None, what)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.pt").write_bytes(b"no network")
    with pytest.raises(DataError, match="no TorchScript network"):
        open_network(NAME, None, f"torchscript:{tmp_path / 'n.pt'}")
