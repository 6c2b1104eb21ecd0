"""Our networks against NVlabs/edm's own code, live."""

import copy
import inspect
from typing import Any

import pytest
import torch

from disback_plugin.diffusion import OneStepStudent
from disback_plugin.pretrained.edm import DhariwalUNet, Precond, SongUNet, build_edm, describe
from tests.pretrained.edm.cases import (
    CASES,
    Case,
    fill,
    inputs,
    latent,
    names_digest,
    one_step_sigma,
    relative,
)
from tests.pretrained.edm.upstream import needs_checkout, nvlabs_denoiser, nvlabs_networks

pytestmark = needs_checkout
PUBLISHED_SONG = {"model_type": "SongUNet", "model_channels": 128, "channel_mult": [2, 2, 2]}
PUBLISHED_NCSNPP = {
    **PUBLISHED_SONG,
    **{"channel_mult": [1, 2, 2, 2], "embedding_type": "fourier", "encoder_type": "residual"},
    **{"channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1]},
}
PUBLISHED_ADM = {"model_type": "DhariwalUNet", "model_channels": 192, "channel_mult": [1, 2, 3, 4]}
KINDS = ["ddpmpp-both-labels", "ncsnpp-both-labels", "adm-both-labels"]


def pair(case: Case) -> tuple[Precond, Any]:
    """Ours and theirs with the same weights, which theirs got first."""
    ours = build_edm(case.class_name, case.init_kwargs).eval()
    theirs = nvlabs_denoiser(case.class_name, case.init_kwargs).eval()
    fill(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_equal(name):
    ours, theirs = pair(CASES[name])
    given = inputs(CASES[name])
    with torch.no_grad():
        for labels, rows in [(given.labels, given.rows), (given.rows, given.rows), (None, None)]:
            for augment in (given.augment_labels, None):
                output = ours(given.x, given.sigma, labels, augment_labels=augment)
                due = theirs(given.x, given.sigma, rows, augment_labels=augment)
                assert relative(output, due) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_noise_levels_round_equally(name):
    ours, theirs = pair(CASES[name])
    assert (ours.sigma_min, ours.sigma_max) == (theirs.sigma_min, theirs.sigma_max)
    sigma = torch.linspace(-7, 6, 4000).exp().reshape(40, 100)
    assert torch.equal(ours.round_sigma(sigma), theirs.round_sigma(sigma))
    double = ours.round_sigma(sigma.double())
    assert double.dtype == torch.float64
    assert torch.equal(double, theirs.round_sigma(sigma.double()))


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_equal(name):
    given, results = inputs(CASES[name]), []
    ours, theirs = pair(CASES[name])
    for denoiser, labels in ((ours, given.labels), (theirs, given.rows)):
        x = given.x.clone().requires_grad_()
        out = denoiser(x, given.sigma, labels, augment_labels=given.augment_labels)
        weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        (weights * out**2).sum().backward()
        results.append((x.grad, {key: p.grad for key, p in denoiser.named_parameters()}))
    (x_ours, by_name), (x_theirs, due_by_name) = results
    assert relative(x_ours, x_theirs) <= 1e-5
    assert by_name.keys() == due_by_name.keys()
    for key, due in due_by_name.items():
        assert relative(by_name[key].reshape(1, -1), due.reshape(1, -1)) <= 1e-4, key


@pytest.mark.parametrize("name", KINDS)
def test_training_draws_the_same_dropout(name):
    case = CASES[name]
    options = {"dropout": 0.3, "label_dropout": 0.5}
    ours, theirs = pair(Case(name, case.class_name, case.network, True, True, options))
    given, outputs = inputs(case), []
    for denoiser, labels in ((ours.train(), given.labels), (theirs.train(), given.rows)):
        torch.manual_seed(3)
        outputs.append(denoiser(given.x, given.sigma, labels).detach())
    assert relative(outputs[0], outputs[1]) <= 1e-5
    with torch.no_grad():
        assert relative(ours.eval()(given.x, given.sigma, given.labels), outputs[1]) > 1e-3


@pytest.mark.parametrize("name", KINDS)
def test_one_step_students_answer_as_the_source(name):
    case = CASES[name]
    ours, theirs = pair(case)
    sigma = one_step_sigma(theirs.sigma_max)
    with torch.no_grad():
        sample = OneStepStudent(ours, sigma)(latent(), inputs(case).labels)
        due = theirs(sigma * latent(), torch.tensor(sigma), inputs(case).rows)
    assert relative(sample, due) <= 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_double_inputs_are_rounded_as_the_source_does(name):
    ours, theirs = pair(CASES[name])
    given = inputs(CASES[name])
    with torch.no_grad():
        output = ours(given.x.double(), given.sigma.double(), given.labels)
        due = theirs(given.x.double(), given.sigma.double(), given.rows)
    assert output.dtype == torch.float64
    assert relative(output, due) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_half_precision_is_as_near_to_float32_as_the_source(name, dtype):
    ours, theirs = pair(CASES[name])
    given = inputs(CASES[name])
    rest = given.sigma.log() / 4, given.rows, given.augment_labels
    with torch.no_grad():
        exact = theirs.model(given.x, *rest)
        output = ours.model(given.x.to(dtype), *rest)
        due = theirs.model(given.x.to(dtype), *rest)
    assert output.dtype == due.dtype == dtype
    assert relative(output, exact) <= 1.5 * relative(due, exact) <= 20 * torch.finfo(dtype).eps


def test_arguments_have_the_names_and_defaults_of_the_source():
    with nvlabs_networks() as networks:
        for ours in (SongUNet, DhariwalUNet):
            theirs = getattr(networks, ours.__name__).__mro__[1]  # beneath what pickles itself
            assert defaults(inspect.signature(ours)) == defaults(inspect.signature(theirs))


def defaults(signature: inspect.Signature) -> dict[str, Any]:
    return {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in signature.parameters.items()
    }


@pytest.mark.parametrize("class_name", ["VPPrecond", "VEPrecond", "iDDPMPrecond", "EDMPrecond"])
def test_preconditionings_have_the_defaults_of_the_source(class_name):
    small = {"num_blocks": 1, "model_channels": 32}
    ours = build_edm(class_name, {"img_resolution": 8, "img_channels": 3, **small})
    theirs = nvlabs_denoiser(class_name, {"img_resolution": 8, "img_channels": 3, **small})
    assert type(ours.model).__name__ == type(theirs.model).__name__
    for name, value in vars(theirs).items():
        if name != "use_fp16" and isinstance(value, int | float) and not name.startswith("_"):
            assert getattr(ours, name) == value, name


@pytest.mark.parametrize("name", KINDS)
def test_fresh_weights_have_the_spread_of_the_source(name):
    case = CASES[name]
    torch.manual_seed(0)
    ours = build_edm(case.class_name, case.init_kwargs).state_dict()
    theirs = nvlabs_denoiser(case.class_name, case.init_kwargs).state_dict()
    for key, due in theirs.items():
        std, due_std = (t.float().square().mean().sqrt() for t in (ours[key], due))
        assert (std == 0) == (due_std == 0), key
        if due_std > 0 and due.numel() >= 2000:
            assert float(std / due_std) == pytest.approx(1, abs=0.1), key


@pytest.mark.parametrize(
    ("arguments", "millions"),
    [
        ({"img_resolution": 32, "label_dim": 10, "augment_dim": 9, **PUBLISHED_SONG}, 55.7),
        ({"img_resolution": 64, "augment_dim": 9, **PUBLISHED_NCSNPP}, 62.8),
        ({"img_resolution": 64, "label_dim": 1000, **PUBLISHED_ADM}, 295.9),
    ],
)
def test_networks_of_the_published_sizes_have_the_names_and_shapes_of_the_source(
    arguments, millions
):
    arguments = {"img_channels": 3, **arguments}
    with torch.device("meta"):
        ours = build_edm("EDMPrecond", arguments)
        theirs = nvlabs_denoiser("EDMPrecond", arguments)
    assert names_digest(ours) == names_digest(theirs)
    assert [key for key, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    assert describe(ours, "edm-pkl").num_parameters / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_loaded_network_is_a_copy():
    ours, theirs = pair(CASES["ddpmpp-edm"])
    twin = copy.deepcopy(ours)
    fill(theirs)
    for key, tensor in twin.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key])
