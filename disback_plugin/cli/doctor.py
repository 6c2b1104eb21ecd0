"""`disback doctor`: versions, devices, disk, and what to install for what is missing."""

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import disback_plugin
from disback_plugin.cli.arguments import add_command
from disback_plugin.errors import count
from disback_plugin.reading import told

REQUIRED = ("torch", "numpy", "filelock", "safetensors", "pydantic", "PyYAML", "xxhash")
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
    "tensorboard": ("logging to TensorBoard", "tensorboard"),
    "wandb": ("logging to Weights & Biases", "wandb"),
    "libcst": ("patching a DMD2 checkout", "dmd2"),
    "shtab": ("completion at a Tab", "completion"),
}
EXAMPLES = """  disback doctor
  disback doctor --disk runs --teacher sdxl/unet
  disback doctor --disk runs > doctor.txt
"""
DETAILS = """What it prints is what a bug report needs. The exit code is 1 where a package that is
needed is missing or something that is there does not work; a machine without a GPU is whole.

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "check packages, GPUs and a disk, and say what to install for the rest"
    parser = add_command(commands, "doctor", summary, EXAMPLES, DETAILS)
    parser.add_argument(
        "--disk",
        type=Path,
        metavar="FOLDER",
        help="measure the disk of a folder, where a path is to lie, by 128 MiB (default: none)",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE",
        help=".safetensors or a folder with them: how many of its nodes fit (default: none)",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; exit code 1 if something needed is missing, or does not work."""
    from disback_plugin.cli.doctor_disk import disk, weights_of

    weights = None if args.teacher is None else weights_of(args.teacher)
    print(f"disback_plugin {disback_plugin.__version__}, Python {platform.python_version()}")
    print(f"{platform.platform()}, installed in {Path(disback_plugin.__file__).parent}")
    missing = [name for name in REQUIRED if not _line(name, "required", None)]
    for name, (what, extra) in OPTIONAL.items():
        _line(name, what, extra)
    broken = [] if "torch" in missing else _machine()
    if args.disk is not None or weights is not None:
        try:
            for line in disk(args.disk or Path(), weights):
                print(line)
        except OSError as error:  # the rest of the report is to be whole all the same
            broken.append(f"disk {args.disk or Path()}: {told(error)}")
    if missing:
        print(f"missing: {', '.join(missing)}; run: pip install disback_plugin")
    for text in broken:
        print(f"broken: {text}")
    return 1 if missing or broken else 0


def _machine() -> list[str]:
    """Print devices and methods; what is broken."""
    try:
        import torch
    except (ImportError, OSError) as error:  # of another system, without its libraries
        return [f"torch is installed, but cannot be imported: {told(error)}"]
    from disback_plugin.adapter import list_adapters
    from disback_plugin.adapters.support import support_of
    from disback_plugin.cli.doctor_gpu import gpus
    from disback_plugin.schedule import list_schedules

    cores, threads = count(os.cpu_count() or 1, "core"), count(torch.get_num_threads(), "thread")
    print(f"CPU: {cores}, torch uses {threads}")
    found = [*gpus()]
    for each in found:
        print(each.text)
    print(f"adapters: {', '.join(list_adapters())}")
    for name in list_adapters():
        if host := support_of(name):
            print(f"  {name:<14} {host.found()}")
    print(f"schedules: {', '.join(list_schedules())}")
    return [each.text for each in found if each.broken]


def _line(package: str, what: str, extra: str | None) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(package)
    except PackageNotFoundError:
        hint = f"pip install 'disback_plugin[{extra}]'" if extra else "pip install disback_plugin"
        print(f"  {package:<14} missing     {what}: {hint}")
        return False
    print(f"  {package:<14} {found:<11} {what}")
    return True
