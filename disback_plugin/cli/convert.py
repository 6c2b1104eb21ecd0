"""`disback convert`: checkpoints of other projects as safe files."""

import argparse
import json
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command, positive
from disback_plugin.errors import CheckpointError, count

EXAMPLES = """  disback convert edm-pkl edm-imagenet-64x64-cond-adm.pkl imagenet.safetensors
  disback convert cm cd_imagenet64_l2.pt cd_imagenet64_l2
"""
EDM_EXAMPLES = """  disback convert edm-pkl edm-imagenet-64x64-cond-adm.pkl imagenet.safetensors
  disback convert edm-pkl network-snapshot-200000.pkl ffhq.safetensors --force
"""
CM_EXAMPLES = """  disback convert cm cd_imagenet64_l2.pt cd_imagenet64_l2
  disback convert cm ct_bedroom256.pt ct_bedroom256 --resolution 256
"""


def add_parser(commands: Any) -> None:
    """Register the command with its actions."""
    summary = "turn a published checkpoint into a safe file"
    parser = add_command(commands, "convert", summary, EXAMPLES)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    add_edm(actions)
    add_cm(actions)


def add_edm(actions: Any) -> None:
    """Register `disback convert edm-pkl`."""
    summary = "an NVlabs/edm pickle as safetensors; nothing of the pickle is run"
    sub = add_command(actions, "edm-pkl", summary, EDM_EXAMPLES)
    sub.add_argument("source", type=Path, metavar="IN", help="the .pkl")
    sub.add_argument("target", type=Path, metavar="OUT", help="the .safetensors to write")
    sub.add_argument("--key", default="ema", help="which of its networks (default: ema)")
    sub.add_argument("--force", action="store_true", help="replace OUT if it exists")
    sub.set_defaults(command=convert_edm)


def add_cm(actions: Any) -> None:
    """Register `disback convert cm`."""
    summary = "OpenAI's consistency model as a folder of diffusers' ConsistencyModelPipeline"
    sub = add_command(actions, "cm", summary, CM_EXAMPLES)
    sub.add_argument("source", type=Path, metavar="IN", help="cd_*.pt or ct_*.pt")
    sub.add_argument("target", type=Path, metavar="OUT_DIR", help="the folder to write")
    for name, what in (
        ("--num-head-channels", "channels an attention head (default: 64, as released)"),
        ("--resolution", "pixels a side (default: the finest attention is at 32, as released)"),
    ):
        sub.add_argument(name, type=positive, metavar="N", help=what)
    sub.add_argument("--force", action="store_true", help="replace a pipeline in OUT_DIR")
    sub.set_defaults(command=convert_cm)


def _source(kind: str, source: Path) -> Path:
    """The file to read, looked at first; CheckpointError for what the kind is not read from."""
    from disback_plugin.pretrained.spec import split_spec

    file = Path(split_spec(f"{kind}:{source}")[1])
    if file.is_dir():
        raise CheckpointError(f"{file} is a folder: give the file to convert")
    return file


def convert_cm(args: argparse.Namespace) -> int:
    """Write the folder and say what the checkpoint held."""
    from disback_plugin.foreign_weights import translated
    from disback_plugin.pretrained.consistency import convert_checkpoint

    source = _source("cm", args.source)
    with translated(f"{source} cannot be converted"):
        found = convert_checkpoint(
            source, args.target, args.num_head_channels, args.resolution, args.force
        )
    shape = "x".join(str(size) for size in found.data_shape)
    classes = count(found.num_classes, "class", "classes") if found.num_classes else "unconditional"
    print(f"{args.source}: {found.architecture}")
    print(f"{args.target}: {found.num_parameters:,} parameters, {shape}, {classes}")
    return 0


def convert_edm(args: argparse.Namespace) -> int:
    """Write a network's tensors and arguments that fit; an existing file is kept unless forced."""
    from disback_plugin.files import temp_for
    from disback_plugin.foreign_weights import translated
    from disback_plugin.pretrained.edm.checkpoint import write_edm_safetensors
    from disback_plugin.pretrained.edm.opening import denoiser_of
    from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle

    if args.target.suffix != ".safetensors":
        raise CheckpointError(f"{args.target}: name the file to write *.safetensors")
    if args.target.is_dir():
        raise CheckpointError(f"{args.target} is a folder: name the file to write in it")
    temp_for(args.target)  # clears what a kill has left beside it
    if args.target.exists() and not args.force:
        raise CheckpointError(f"{args.target} exists; give --force to replace it")
    source = _source("edm-pkl", args.source)
    with translated(f"{source} cannot be converted"):
        checkpoint = read_edm_pickle(source, args.key)
        denoiser_of(checkpoint, source)  # refuses tensors that no network of the arguments has
        args.target.parent.mkdir(parents=True, exist_ok=True)
        size = write_edm_safetensors(checkpoint, args.target)
    num = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    print(f"{args.source}: {checkpoint.class_name} with {json.dumps(checkpoint.init_kwargs)}")
    tensors = count(len(checkpoint.tensors), "tensor")
    print(f"{args.target}: {tensors}, {num:,} numbers, {size:,} bytes")
    return 0
