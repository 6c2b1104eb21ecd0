"""Our networks against the recorded answers of NVlabs/edm: no checkout needed."""

import json
from typing import Any

import pytest
import torch

from disback_plugin.diffusion import OneStepStudent
from disback_plugin.pretrained.edm import Precond
from tests.pretrained.edm.cases import (
    CASES,
    Case,
    built,
    inputs,
    kept,
    latent,
    names_digest,
    one_step_sigma,
    relative,
)
from tests.pretrained.edm.record import FILE

RECORDED: dict[str, Any] = json.loads(FILE.read_text())


def answer(denoiser: Precond, case: Case) -> torch.Tensor:
    given = inputs(case)
    with torch.no_grad():
        return kept(denoiser(given.x, given.sigma, given.labels, given.augment_labels))


def test_every_case_is_recorded():
    assert list(RECORDED) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_names_ranges_and_outputs_are_those_of_nvlabs_edm(name):
    case, recorded = CASES[name], RECORDED[name]
    denoiser = built(case)
    assert names_digest(denoiser) == recorded["names"]
    # the last bits of a float32 cumulative product are the processor's
    sigmas = [denoiser.sigma_min, denoiser.sigma_max]
    assert sigmas == pytest.approx(recorded["sigma_range"], rel=1e-6)
    assert relative(answer(denoiser, case), torch.tensor(recorded["output"])) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_one_step_samples_are_those_of_nvlabs_edm(name):
    case = CASES[name]
    denoiser = built(case)
    student = OneStepStudent(denoiser, one_step_sigma(denoiser.sigma_max))
    with torch.no_grad():
        sample = kept(student(latent(), inputs(case).labels), every=4)
    assert relative(sample, torch.tensor(RECORDED[name]["one_step"])) <= 1e-5


@pytest.mark.parametrize(
    "name", ["ddpmpp-both-labels", "ncsnpp-both-labels", "song-skip-skip", "adm-both-labels"]
)
def test_the_recorded_outputs_see_every_tensor(name):
    case = CASES[name]
    denoiser = built(case)
    before = answer(denoiser, case)
    unseen = []
    for key, tensor in denoiser.state_dict().items():
        original = tensor.clone()
        tensor.mul_(1.1)
        if relative(answer(denoiser, case), before) <= 1e-5:
            unseen.append(key)
        tensor.copy_(original)
    assert unseen == []
