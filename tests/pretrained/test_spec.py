"""One way in: what a spec says, what lies there, and what is said where they disagree."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import disback_plugin
from disback_plugin.cli.main import main
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.smoke.pipelines import save_ddpm
from disback_plugin.pretrained import describe, load_denoiser, load_text_encoder
from disback_plugin.pretrained.formats import FORMATS, register_format
from tests.pretrained.files import (
    OPENAI_OPTIONS,
    tiny_edm,
    write_edm,
    write_edm_pickle,
    write_openai,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file or folder of each kind."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_edm(folder / "edm.safetensors")
    write_edm_pickle(folder / "edm.pkl")
    write_openai(folder / "cd_tiny.pt")
    save_ddpm(folder / "ddpm")
    (folder / "text.txt").write_text("hello, a text that is long enough")
    (folder / "empty").write_bytes(b"")
    (folder / "pickle.pkl").write_bytes(b"\x80\x04N.")
    save_file({"weight": torch.ones(2)}, folder / "plain.safetensors")
    (folder / "nothing").mkdir()
    return folder


def test_it_is_exported_at_the_top() -> None:
    assert disback_plugin.load_denoiser is load_denoiser


@pytest.mark.parametrize(
    ("spec", "options", "kind"),
    [
        ("edm.pkl", {}, "edm-pkl"),
        ("edm.safetensors", {}, "safetensors"),
        ("cd_tiny.pt", OPENAI_OPTIONS, "cm"),
        ("ddpm", {}, "diffusers"),
    ],
)
def test_a_bare_path_is_looked_into_and_the_kind_is_said(
    spec: str, options: dict[str, object], kind: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = load_denoiser(f"{folder}/{spec}", **options)
    assert f"read as {kind}:{folder}/{spec}" in caplog.text
    told = load_denoiser(f"{kind}:{folder}/{spec}", **options)
    assert describe(found) == describe(told)
    assert describe(told).source == kind
    assert not told.training
    x, sigma = torch.randn(2, *describe(told).data_shape), torch.tensor([0.5, 3.0])
    labels = torch.tensor([0, 1]) if describe(told).num_classes else None
    assert torch.equal(found(x, sigma, labels), told(x, sigma, labels))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("edm_pkl:x", "unknown kind of checkpoint 'edm_pkl'; did you mean 'edm-pkl'"),
        ("difusers:x", "did you mean 'diffusers'"),
        ("cm:", "'cm:' names no file: write cm:FILE"),
        ("nothing-here", "no such file or folder: nothing-here"),
        ("owner/name", r"a repository on the hub is diffusers:owner/name"),
        ("edm-pkl:{}/missing.pkl", "no such file or folder: .*missing.pkl"),
        ("run:owner/name", "no such file or folder: owner/name"),
        (
            "cm:{}/pickle.pkl",
            r"is a pickle, as NVlabs/edm publishes, not what cm: reads; write edm",
        ),
        ("edm-pkl:{}/cd_tiny.pt", r"is a torch.save file, .* write cm:"),
        ("edm-pkl:{}/edm.safetensors", "is a safetensors file, .* write safetensors:"),
        ("safetensors:{}/ddpm", "is a diffusers folder, not what safetensors: reads"),
        ("run:{}/ddpm", "is a diffusers folder, not what run: reads; write diffusers:"),
        ("diffusers:{}/cd_tiny.pt", "write cm:"),
        ("{}/text.txt", "is of no known format; known: a pickle"),
        ("{}/empty", "is empty: it was not written whole"),
        ("{}/nothing", "is of no known format"),
        ("safetensors:{}/text.txt", "is no whole safetensors file"),
        ("safetensors:{}/plain.safetensors", "does not tell what network it is for"),
        ("run:{}/nothing", "neither an experiment's folder .config.yaml is missing. nor one of"),
        ("diffusers:{}/nothing", "has no unet"),
    ],
)
def test_what_does_not_fit_is_said(spec: str, message: str, folder: Path) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message):
        load_denoiser(spec.format(folder))


def test_a_format_refuses_options_it_does_not_have(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'safetensors' has no option 'key'; it has none"):
        load_denoiser(f"safetensors:{folder}/edm.safetensors", key="ema")


def test_a_kind_registers_once(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    load_denoiser(f"diffusers:{tmp_path}")  # fills the table
    with pytest.raises(ConfigError, match="format 'diffusers' is already registered"):
        register_format("diffusers")(FORMATS["diffusers"].open)


def test_kinds_are_known_before_anything_that_reads_them_is_imported() -> None:
    asked = (
        "import sys, disback_plugin.pretrained as p; print(*p.KINDS); "
        "print(*[name for name in sys.modules if name in ('diffusers', 'transformers', 'peft') "
        "or name.startswith(('disback_plugin.lab', 'disback_plugin.pretrained.'))])"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    kinds, imported = said.stdout.splitlines()
    assert kinds == "edm-pkl cm diffusers weights run safetensors"
    own = {"detection", "formats", "spec"}
    assert set(imported.split()) == {f"disback_plugin.pretrained.{name}" for name in own}


def test_only_pipelines_of_text_models_have_a_text_encoder(folder: Path) -> None:
    for spec in (f"edm-pkl:{folder}/edm.pkl", f"cm:{folder}/cd_tiny.pt"):
        with pytest.raises(ConfigError, match=f"only diffusers .* encoders, {spec} has none"):
            load_text_encoder(spec)


def test_an_edm_pickle_is_the_network_in_it(folder: Path) -> None:
    loaded, own = load_denoiser(f"edm-pkl:{folder}/edm.pkl"), tiny_edm("ddpmpp-both-labels")
    x, sigma, ids = torch.randn(3, 3, 8, 8), torch.tensor([0.1, 2.0, 80.0]), torch.tensor([0, 4, 2])
    assert torch.equal(loaded(x, sigma, ids), own(x, sigma, torch.eye(5)[ids]))
    with pytest.raises(ConfigError, match="'edm-pkl' has no option 'keys'; it has key"):
        load_denoiser(f"edm-pkl:{folder}/edm.pkl", keys="ema")


def test_the_limits_of_edms_sampler_stand_in_for_none(folder: Path) -> None:
    denoiser = load_denoiser(f"safetensors:{folder}/edm.safetensors")
    assert (denoiser.sigma_min, denoiser.sigma_max) == (0.002, 80.0)
    assert (describe(denoiser).sigma_min, describe(denoiser).sigma_max) == (0.002, 80.0)


def test_inspect_prints_what_was_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["resolution=8", "num_head_channels=16"]
    assert main(["inspect", f"cm:{folder}/cd_tiny.pt", *options]) == 0
    said = capsys.readouterr().out
    assert said.startswith("cm: UNet2DModel of 32-64 channels")
    assert "3x8x8, 10 classes, consistency parametrisation, sigma 0.002 to 80" in said
    assert main(["inspect", f"cm:{folder}/cd_tiny.pt", "resolution"]) == 2
    assert "'resolution' is not of the form option=value" in capsys.readouterr().err
    assert main(["inspect", f"cm:{folder}/missing.pt"]) == 2
    assert "disback: error: no such file or folder" in capsys.readouterr().err


def test_a_missing_package_is_named_with_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib
    from typing import NoReturn

    def missing(name: str) -> NoReturn:
        raise ModuleNotFoundError(f"No module named {name!r}", name="diffusers")

    monkeypatch.delitem(FORMATS, "diffusers", raising=False)
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"needs the package 'diffusers'.*\[pretrained\]"):
        load_denoiser(f"diffusers:{folder}/ddpm")
