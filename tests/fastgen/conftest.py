"""The real FastGen where a checkout and what it imports are at hand; the small host everywhere."""

import importlib.util
from dataclasses import replace

import pytest

from tests.fastgen.hosting import SMALL_HOST, Host, find_checkout

NEEDED = (
    *("attrs", "av", "boto3", "diffusers", "einops", "ftfy", "hydra", "imageio", "loguru"),
    *("pandas", "psutil", "scipy", "timm", "torchvision", "transformers", "wandb", "webdataset"),
)


@pytest.fixture(scope="session")
def small() -> Host:
    """The small host."""
    return SMALL_HOST


@pytest.fixture(scope="session")
def real() -> Host:
    """FastGen itself, at the sizes of its own trainer test."""
    checkout = find_checkout()
    if checkout is None:
        pytest.skip("no FastGen checkout (third_party/FastGen or DISBACK_UPSTREAMS)")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(
            f"FastGen imports {', '.join(missing)}: install what its requirements.txt lists"
        )
    return replace(
        SMALL_HOST, checkout=checkout, config="tests/hosts/fastgen_config.py", is_real=True
    )
