"""`disback doctor`: versions, devices, optional parts, and what to install for what is missing."""

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import disback_plugin
from disback_plugin.cli.arguments import add_command
from disback_plugin.errors import count

REQUIRED = ("torch", "numpy", "filelock", "safetensors", "pydantic", "PyYAML")
OPTIONAL = {
    "accelerate": ("reference trainer", "train"),
    "scikit-learn": ("digits experiment and demo", "train"),
    "scipy": ("metrics", "train"),
    "Jinja2": ("report", "train"),
    "pillow": ("report", "train"),
    "tqdm": ("progress bars", "train"),
    "diffusers": ("teachers from diffusers and OpenAI's files", "pretrained"),
    "transformers": ("text encoders of teachers that take prompts", "pretrained"),
    "lmdb": ("image and latent data sets", "data"),
    "datasets": ("prompts in tables and on the Hugging Face hub", "data"),
    "peft": ("nodes as LoRA adapters", "lora"),
    "clean-fid": ("the resize of COCO's protocols", "eval"),
    "torch-fidelity": ("sFID", "eval"),
    "open_clip_torch": ("the CLIP score", "eval"),
    "wandb": ("logging to Weights & Biases", "wandb"),
    "libcst": ("patching a DMD2 checkout", "dmd2"),
}
EXAMPLES = "  disback doctor\n"


def add_parser(commands: Any) -> None:
    """Register the command."""
    add_command(
        commands, "doctor", "show what is installed and what to install for the rest", EXAMPLES
    ).set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the table; exit code 1 if a required package is missing."""
    from disback_plugin.adapter import list_adapters
    from disback_plugin.schedule import list_schedules

    print(f"disback_plugin {disback_plugin.__version__}, Python {platform.python_version()}")
    missing = [name for name in REQUIRED if not _line(name, "required", None)]
    for name, (what, extra) in OPTIONAL.items():
        _line(name, what, extra)
    _devices()
    print(f"adapters: {', '.join(list_adapters())}")
    print(f"schedules: {', '.join(list_schedules())}")
    if missing:
        print(f"missing: {', '.join(missing)}; run: pip install disback_plugin")
    return 1 if missing else 0


def _line(package: str, what: str, extra: str | None) -> bool:
    try:
        found = version(package)
    except PackageNotFoundError:
        hint = f"pip install 'disback_plugin[{extra}]'" if extra else "pip install disback_plugin"
        print(f"  {package:<14} missing     {what}: {hint}")
        return False
    print(f"  {package:<14} {found:<11} {what}")
    return True


def _devices() -> None:
    import torch

    cores, threads = count(os.cpu_count() or 1, "core"), count(torch.get_num_threads(), "thread")
    print(f"CPU: {cores}, torch uses {threads}")
    if not torch.cuda.is_available():
        print("GPU: none that torch can use")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        print(f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
