"""`disback inspect`: what a checkpoint is, as a teacher or student would be loaded from it."""

import argparse
from typing import Any

from disback_plugin.cli.arguments import add_command, add_spec, parse_options

EXAMPLES = """  disback inspect edm-pkl:edm-imagenet-64x64-cond-adm.pkl
  disback inspect cm:cd_imagenet64_l2.pt
  disback inspect diffusers:google/ddpm-cifar10-32
  disback inspect diffusers:stable-diffusion-v1-5 lora=lcm-lora.safetensors lcm=true
  disback inspect run:runs/digits-edm/runs/disback-seed0 weights=raw
  disback inspect teacher.safetensors
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "load a checkpoint and say what it is"
    parser = add_command(commands, "inspect", summary, EXAMPLES)
    add_spec(parser)
    parser.set_defaults(command=inspect)


def inspect(args: argparse.Namespace) -> int:
    """Print the description."""
    from disback_plugin.pretrained import describe, load_denoiser

    print(describe(load_denoiser(args.spec, **parse_options(args.overrides))))
    return 0
