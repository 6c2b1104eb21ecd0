"""`disback export`: a trained student in the format of another library."""

import argparse
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command, add_device, add_spec, parse_options
from disback_plugin.cli.sample import add_asked

EXAMPLES = """  disback export run:runs/sdxl/runs/disback-seed0 --as bin --out sdxl --dtype fp16
  disback export weights:pytorch_model.bin base=diffusers:SDXL --timestep 399 --as bin --out sdxl
  disback export run:runs/ffhq64/runs/disback-seed0 --as safetensors --out ffhq64-1step
  disback export cm:cd_trained.pt --as diffusers --out imagenet64-1step
"""
DETAILS = """OUT is a folder with the weights, student.json (how the student is asked, for `disback
sample`) and README.md, a model card:
  diffusers    a pipeline's folder (Stable Diffusion, DDPM, consistency models)
  bin          student_unet.bin, a U-Net's state dict, loaded as DMD2's published files are
  safetensors  the same as student_unet.safetensors; of EDM, student.safetensors for load_denoiser
  lora         pytorch_lora_weights.safetensors of a student that is a LoRA

It is loaded again by the library's own classes, and its images are compared with those of
`disback sample`, before it takes its place.

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "write a trained student in another library's format"
    parser = add_command(commands, "export", summary, EXAMPLES, DETAILS)
    add_spec(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    forms = ["diffusers", "bin", "safetensors", "lora"]
    parser.add_argument("--as", dest="form", choices=forms, required=True, help="see below")
    parser.add_argument(
        "--dtype",
        choices=["float32", "fp16", "bf16"],
        default="float32",
        help="of the weights in it (default: float32)",
    )
    add_asked(parser)
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="of `disback eval`, for the card (default: those of it beside the student)",
    )
    add_device(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Export, and say how far the images are apart."""
    from disback_plugin.lab.export import export
    from disback_plugin.lab.sampling import Asked, open_student

    asked = Asked(sigma=args.sigma, timestep=args.timestep, noise=args.noise)
    student = open_student(args.spec, parse_options(args.overrides), asked)
    apart = export(student, args.out, args.form, args.dtype, args.results, args.device)
    print(f"{args.out}: {', '.join(sorted(file.name for file in args.out.iterdir()))}")
    print(f"loaded again: its images are those of `disback sample`, to {apart} of 255 levels")
    return 0
