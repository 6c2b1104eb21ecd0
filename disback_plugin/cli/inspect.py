"""`disback inspect`: what a checkpoint is, as a teacher or student would be loaded from it."""

import argparse
import re
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.errors import ConfigError
from disback_plugin.plain_yaml import parse_yaml
from disback_plugin.reading import cut

EXAMPLES = """  disback inspect edm-pkl:edm-imagenet-64x64-cond-adm.pkl
  disback inspect cm:cd_imagenet64_l2.pt
  disback inspect diffusers:google/ddpm-cifar10-32
  disback inspect diffusers:stable-diffusion-v1-5 lora=lcm-lora.safetensors lcm=true
  disback inspect run:runs/digits-edm/runs/disback-seed0 weights=raw
  disback inspect teacher.safetensors
"""
_OPTION = re.compile(r"(\w+)=(.*)", re.DOTALL)


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "load a checkpoint and say what it is"
    parser = add_command(commands, "inspect", summary, EXAMPLES)
    parser.add_argument(
        "spec",
        metavar="KIND:LOCATION",
        help="kind: edm-pkl, cm, diffusers, run or safetensors; without one the content decides",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="option=value", help="options of the format"
    )
    parser.set_defaults(command=inspect)


def inspect(args: argparse.Namespace) -> int:
    """Print the description."""
    from disback_plugin.pretrained import describe, load_denoiser

    options = {}
    for text in args.overrides:
        found = _OPTION.fullmatch(text)
        if found is None:
            raise ConfigError(f"{text!r} is not of the form option=value")
        if found[1] in options:
            raise ConfigError(f"option {found[1]!r} is given twice")
        options[found[1]] = parse_yaml(found[2], f"the value of {cut(text, 80)!r}")
    print(describe(load_denoiser(args.spec, **options)))
    return 0
