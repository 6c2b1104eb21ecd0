"""What every EDM denoiser does, whatever its weights."""

import copy
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from disback_plugin.diffusion import Description, TextCondition
from disback_plugin.errors import CheckpointError, DisBackError
from disback_plugin.pretrained.edm import Precond, build_edm, describe
from disback_plugin.pretrained.edm.blocks import AttentionBlock
from tests.pretrained.edm.cases import (
    ADM,
    CASES,
    DDPMPP,
    NCSNPP,
    Case,
    built,
    fill,
    inputs,
    relative,
)

KINDS = ["ddpmpp-both-labels", "ncsnpp-both-labels", "adm-both-labels"]


def ask(denoiser: Precond, case: Case) -> torch.Tensor:
    given = inputs(case)
    with torch.no_grad():
        return denoiser(given.x, given.sigma, given.labels, given.augment_labels)


@pytest.mark.parametrize("name", KINDS)
def test_ids_and_rows_are_the_same_labels_and_none_is_no_class(name):
    denoiser, given = built(CASES[name]), inputs(CASES[name])
    with torch.no_grad():
        ids, rows, none, zeros = (
            denoiser(given.x, given.sigma, labels)
            for labels in (given.labels, given.rows, None, torch.zeros_like(given.rows))
        )
    assert torch.equal(ids, rows)
    assert torch.equal(none, zeros)
    assert relative(ids, none) > 1e-3


def test_a_model_without_classes_takes_rows_of_none_and_refuses_labels():
    case = CASES["ncsnpp-ve"]
    denoiser = built(Case(case.name, case.class_name, case.network))
    given = inputs(case)
    plain = denoiser(given.x, given.sigma)
    assert torch.equal(denoiser(given.x, given.sigma, torch.zeros(3, 0)), plain)
    with pytest.raises(DisBackError, match="takes no class labels"):
        denoiser(given.x, given.sigma, torch.tensor([0, 1, 2]))
    with pytest.raises(DisBackError, match="encoded prompts were given"):
        denoiser(given.x, given.sigma, TextCondition(torch.zeros(3, 2, 4)))
    with pytest.raises(DisBackError, match=r"augment_labels must be \(B, 0\), not \(3, 9\)"):
        denoiser(given.x, given.sigma, augment_labels=torch.zeros(3, 9))


def test_sigma_is_one_number_per_sample_and_x_floating():
    denoiser, given = built(CASES["ddpmpp-edm"]), inputs(CASES["ddpmpp-edm"])
    with pytest.raises(DisBackError, match="one tensor entry per sample"):
        denoiser(given.x, given.sigma[:1])
    with pytest.raises(DisBackError, match="floating-point"):
        denoiser(given.x.long(), given.sigma)


@pytest.mark.parametrize("name", [*KINDS, "ncsnpp-iddpm"])
def test_copies_and_files_answer_bit_for_bit(name, tmp_path):
    case = CASES[name]
    denoiser = built(case)
    due = ask(denoiser, case)
    twin = copy.deepcopy(denoiser)
    save_file(denoiser.state_dict(), tmp_path / "w.safetensors")
    with torch.device("meta"):
        loaded = build_edm(case.class_name, case.init_kwargs).eval()
    assert all(parameter.is_meta for parameter in loaded.parameters())
    loaded.load_state_dict(load_file(tmp_path / "w.safetensors"), strict=True, assign=True)
    with torch.no_grad():
        next(denoiser.parameters()).add_(1)
    assert torch.equal(ask(twin, case), due)
    assert torch.equal(ask(loaded, case), due)
    assert not torch.equal(ask(denoiser, case), due)


@pytest.mark.parametrize("name", [*KINDS, "ncsnpp-iddpm", "ddpmpp-vp"])
def test_bfloat16_weights_keep_exact_tables_and_stay_near(name):
    case = CASES[name]
    denoiser = built(case)
    due = ask(denoiser, case)
    tables = {k: b.clone() for k, b in denoiser.named_buffers() if not k.endswith("_filter")}
    half = copy.deepcopy(denoiser).to(torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    for key, table in tables.items():
        assert torch.equal(half.get_buffer(key), table)
        assert half.get_buffer(key).dtype == torch.float32
    output = ask(half, case)
    assert output.dtype == torch.float32
    assert 1e-4 < relative(output, due) < 0.05


@pytest.mark.parametrize("name", KINDS)
def test_bf16_precision_computes_in_half_and_keeps_float32_weights(name):
    case = CASES[name]
    denoiser = built(case)
    due = ask(denoiser, case)
    denoiser.precision = "bf16"
    assert 1e-4 < relative(ask(denoiser, case), due) < 0.05
    given = inputs(case)
    denoiser.train()(given.x, given.sigma, given.labels, given.augment_labels).sum().backward()
    for key, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.abs().sum() > 0, key


def test_fp16_precision_is_float32_on_a_cpu():
    case = CASES["adm-both-labels"]
    plain = ask(built(case), case)
    half = build_edm(case.class_name, case.init_kwargs | {"use_fp16": True}).eval()
    fill(half)
    assert half.precision == "fp16"
    assert torch.equal(ask(half, case), plain)


def test_autocast_reaches_the_network_and_not_the_scalings():
    case = CASES["ncsnpp-both-labels"]
    denoiser = built(case)
    due = ask(denoiser, case)
    with torch.autocast("cpu", torch.bfloat16):
        output = ask(denoiser, case)
    assert output.dtype == torch.float32
    assert 1e-4 < relative(output, due) < 0.05


@pytest.mark.parametrize("name", KINDS)
def test_attention_leaves_the_memory_format_as_it_was(name):
    denoiser, contiguous = built(CASES[name]), []
    for module in denoiser.modules():
        if isinstance(module, AttentionBlock):
            module.register_forward_hook(lambda *args: contiguous.append(args[2].is_contiguous()))
    ask(denoiser, CASES[name])
    assert contiguous
    assert all(contiguous)


@pytest.mark.slow
def test_the_forward_pass_is_one_graph():
    case, given = CASES["ncsnpp-iddpm"], inputs(CASES["ncsnpp-iddpm"])
    denoiser = built(case)
    compiled = torch.compile(denoiser, backend="eager", fullgraph=True)
    with torch.no_grad():  # rows: ids are checked, on a CPU, by their values
        output = compiled(given.x, given.sigma, given.rows, given.augment_labels)
    assert torch.equal(output, ask(denoiser, case))


def test_the_description_says_what_was_built():
    adm = build_edm("training.networks.EDMPrecond", CASES[KINDS[2]].init_kwargs)
    assert describe(adm, "edm-pkl") == Description(
        source="edm-pkl",
        architecture="ADM",
        num_parameters=2362531,
        data_shape=(3, 8, 8),
        num_classes=5,
        parametrisation="edm",
        sigma_min=0.0,
        sigma_max=float("inf"),
        condition="class",
    )
    plain = describe(build_edm("VEPrecond", CASES["song-skip-skip"].init_kwargs), "safetensors")
    found = (plain.source, plain.architecture, plain.parametrisation, plain.condition)
    assert found == ("safetensors", "NCSN++", "ve", "none")
    assert (plain.sigma_min, plain.sigma_max) == (0.02, 100)
    assert describe(built(CASES["ddpmpp-vp"]), "edm-pkl").architecture == "DDPM++"


@pytest.mark.parametrize(
    ("class_name", "changes", "message"),
    [
        ("GANPrecond", {}, "unknown EDM preconditioning 'GANPrecond'; known are VPPrecond"),
        ("EDMPrecond", {"model_type": "UNet"}, "unknown model_type of EDMPrecond 'UNet'"),
        ("EDMPrecond", {"model_type": ["SongUNet"]}, "unknown model_type"),
        ("EDMPrecond", {"sigma_dat": 1.0}, "'sigma_dat'.* did you mean 'sigma_data'"),
        ("VPPrecond", {"sigma_data": 1.0}, "'sigma_data' in VPPrecond with SongUNet"),
        ("EDMPrecond", {"out_channels": 3}, "'out_channels'"),
        ("EDMPrecond", {"num_blocks": 2**31}, "num_blocks: .*less than or equal to 64"),
        ("EDMPrecond", {"num_blocks": "4"}, r"num_blocks: .*integer \(seen: '4'\)"),
        ("EDMPrecond", {"channel_mult": []}, "channel_mult"),
        ("EDMPrecond", {"channel_mult": [1, 10**6]}, "channel_mult.1: "),
        ("EDMPrecond", {"dropout": float("nan")}, "dropout"),
        ("EDMPrecond", {"encoder_type": "best"}, "encoder_type.*'standard', 'skip' or 'residual'"),
        ("EDMPrecond", {"resample_filter": [0, 0]}, "resample_filter.0: "),
        ("EDMPrecond", {"img_resolution": 9}, "divisible by 2 for 2 levels, but it is 9"),
        ("EDMPrecond", {"model_channels": 18}, "18 channels do not make 4 groups of one size"),
        (
            "EDMPrecond",
            {**ADM, "model_channels": 224, "channel_mult": [1]},
            "224 channels do not make 3 heads",
        ),
        ("iDDPMPrecond", {"M": 10**9}, "M: "),
    ],
)
def test_what_a_file_must_not_ask_for_is_named(class_name, changes, message):
    network = changes if "model_type" in changes else NCSNPP | changes
    arguments = {"img_resolution": 8, "img_channels": 3, **network}
    with pytest.raises(CheckpointError, match=message):
        build_edm(class_name, arguments)


@pytest.mark.slow
def test_building_without_memory_does_not_load_the_compiler():
    script = (
        "import sys, torch\n"
        "from disback_plugin.pretrained.edm import build_edm\n"
        "from tests.pretrained.edm.cases import CASES\n"
        "with torch.device('meta'):\n"
        f"    for name in {KINDS}:\n"
        "        build_edm(CASES[name].class_name, CASES[name].init_kwargs)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_a_missing_argument_is_named():
    with pytest.raises(CheckpointError, match=re.escape("EDMPrecond with DhariwalUNet: img_chan")):
        build_edm("EDMPrecond", {"img_resolution": 8})


def test_easydicts_are_mappings_and_stay_as_they_are():
    class EasyDict(dict):
        __getattr__ = dict.__getitem__

    arguments = EasyDict(CASES["song-skip-skip"].init_kwargs)
    before = dict(arguments)
    assert build_edm("EDMPrecond", arguments).img_resolution == arguments.img_resolution == 8
    assert dict(arguments) == before


@pytest.mark.parametrize("network", [DDPMPP, NCSNPP, ADM])
def test_a_fresh_network_starts_at_the_skip_part(network):
    torch.manual_seed(0)
    denoiser = build_edm("EDMPrecond", {"img_resolution": 8, "img_channels": 3, **network}).eval()
    given = inputs(CASES["ddpmpp-edm"])
    with torch.no_grad():
        output = denoiser(given.x, given.sigma)
    kept = (0.25 / (given.sigma**2 + 0.25))[:, None, None, None]
    torch.testing.assert_close(output, kept * given.x, atol=1e-3, rtol=0)
