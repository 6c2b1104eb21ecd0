"""Tiny checkpoints of the kinds that are no diffusers pipelines, in the real formats."""

from pathlib import Path

from disback_plugin.lab.smoke import openai
from disback_plugin.lab.smoke.pickles import edm_file, network
from disback_plugin.pretrained.edm import Precond
from disback_plugin.pretrained.edm.checkpoint import EDMCheckpoint, write_edm_safetensors
from tests.pretrained.edm import cases as edm

OPENAI = openai.Config(channels=32, mult=(1, 2), num_classes=10)
OPENAI_OPTIONS = {"resolution": 8, "num_head_channels": OPENAI.num_head_channels}


def tiny_edm(case: str) -> Precond:
    """An EDM denoiser of 8x8 RGB images; see tests/pretrained/edm/cases.py."""
    return edm.built(edm.CASES[case])


def write_edm(file: Path, case: str = "ddpmpp-both-labels") -> Path:
    """What `disback convert edm-pkl` makes, by default of a model with five classes."""
    chosen, tensors = edm.CASES[case], tiny_edm(case).state_dict()
    checkpoint = EDMCheckpoint(
        class_name=chosen.class_name, init_kwargs=chosen.init_kwargs, tensors=tensors
    )
    write_edm_safetensors(checkpoint, file)
    return file


def write_edm_pickle(file: Path, case: str = "ddpmpp-both-labels") -> Path:
    """A snapshot as NVlabs/edm's training writes it."""
    chosen, tensors = edm.CASES[case], dict(tiny_edm(case).state_dict())
    file.write_bytes(edm_file(network(chosen.class_name, chosen.init_kwargs, tensors)))
    return file


def write_openai(file: Path) -> Path:
    """As OpenAI's cd_*.pt: ten classes, at 8x8; load it with OPENAI_OPTIONS."""
    openai.write(file, OPENAI)
    return file
