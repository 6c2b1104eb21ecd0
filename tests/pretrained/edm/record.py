"""Writes recorded/outputs.json from a checkout of edm: python -m tests.pretrained.edm.record"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.pretrained.edm.cases import (
    CASES,
    Case,
    fill,
    inputs,
    kept,
    latent,
    names_digest,
    one_step_sigma,
)
from tests.pretrained.edm.upstream import nvlabs_denoiser

FILE = Path(__file__).parent / "recorded" / "outputs.json"


def record(case: Case) -> dict[str, Any]:
    """NVlabs/edm's answers to a case's inputs, and to one-step noise without augmentation."""
    theirs = nvlabs_denoiser(case.class_name, case.init_kwargs).eval()
    fill(theirs)
    given, sigma = inputs(case), one_step_sigma(theirs.sigma_max)
    with torch.no_grad():
        output = theirs(given.x, given.sigma, given.rows, augment_labels=given.augment_labels)
        sample = theirs(sigma * latent(), torch.full((len(output),), sigma), given.rows)
    return {
        "names": names_digest(theirs),
        "sigma_range": [theirs.sigma_min, theirs.sigma_max],
        "output": _numbers(kept(output)),
        "one_step": _numbers(kept(sample, every=4)),
    }


def _numbers(output: Tensor) -> list[list[float]]:
    return [[float(f"{value:.7g}") for value in row] for row in output.tolist()]


def main() -> None:
    """One line a case."""
    torch.set_num_threads(1)
    lines = [f"{json.dumps(name)}: {json.dumps(record(case))}" for name, case in CASES.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
