"""Tiny students in the real formats, made once, and what samples them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin.lab.data import load_prompts
from disback_plugin.lab.sampling import (
    Asked,
    Sampler,
    make_sampler,
    open_student,
    parse_labels,
    parse_seeds,
)
from tests.pretrained.files import write_edm_pickle

Make = Callable[..., Sampler]


@pytest.fixture(scope="session")
def edm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EDM student with five classes, as Diff-Instruct's snapshots are."""
    return write_edm_pickle(tmp_path_factory.mktemp("students") / "edm.pkl")


@pytest.fixture
def sampler(edm: Path) -> Make:
    """Of the EDM student unless another spec is given."""

    def make(
        seeds: str = "0-9",
        spec: str = "",
        *,
        labels: str | None = None,
        prompts: Path | None = None,
        sigma: float | None = 80.0,
        timestep: int | None = None,
        **options: Any,
    ) -> Sampler:
        asked = Asked(sigma=sigma if timestep is None else None, timestep=timestep)
        student = open_student(spec or f"edm-pkl:{edm}", options, asked)
        rule = None if labels is None else parse_labels(labels)
        texts = None if prompts is None else load_prompts(prompts)
        return make_sampler(student, parse_seeds(seeds), rule, texts, device="cpu")

    return make


def expected_bytes(images: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) in [-1, 1] -> (B, H, W, C), written out."""
    scaled = (images.double() * 127.5 + 128).clamp(0, 255)
    return scaled.floor().to(torch.uint8).permute(0, 2, 3, 1)
