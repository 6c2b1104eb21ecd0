"""`disback path`: look at, check and repair a degradation path."""

import argparse
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.path import DegradationPath
from disback_plugin.path.published import import_published, read_teacher

EXAMPLES = """  disback path show runs/digits-ddpm/runs/disback-seed0/path --probe
  disback path verify runs/digits-ddpm/runs/disback-seed0/path
  disback path import old/checkpoint_model_* --teacher sdxl/unet --out path
"""


def add_parser(commands: Any) -> None:
    """Register the command with its actions."""
    parser = add_command(commands, "path", "look at, check or repair a degradation path", EXAMPLES)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, action, summary in (
        ("show", show, "list the nodes: step, bytes, distance to the teacher, what bfloat16 keeps"),
        ("verify", verify, "read every node and check it; exit code 1 if anything is damaged"),
        ("repair", repair, "drop what a crash left: temp files, unlisted nodes, a torn last node"),
    ):
        sub = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:])
        sub.add_argument("path", type=Path, metavar="PATH", help="folder with path.json")
        sub.set_defaults(command=action)
        if action is show:
            sub.add_argument(
                "--probe",
                action="store_true",
                help="also measure each node on the run's initial student: what it knows of its "
                "samples, and how it pulls compared with the teacher (a path of `disback run`)",
            )
    add_import(actions)


def add_import(actions: Any) -> None:
    """Register `disback path import`."""
    summary = "make a path from nodes recorded by the paper's published code"
    sub = actions.add_parser("import", help=summary, description=summary[0].upper() + summary[1:])
    sub.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="checkpoint_model_0NNNNN"
    )
    sub.add_argument(
        "--teacher", type=Path, required=True, help="its weights file or diffusers folder"
    )
    sub.add_argument("--out", type=Path, required=True, metavar="PATH", help="folder to make")
    sub.add_argument("--codec", choices=["full", "delta"], default="full", help="how to store")
    sub.set_defaults(command=import_folders)


def import_folders(args: argparse.Namespace) -> int:
    """Import recorded folders and show the path."""
    import_published(args.folders, read_teacher(args.teacher), args.out, args.codec)
    return show(argparse.Namespace(path=args.out, probe=False))


def show(args: argparse.Namespace) -> int:
    """Print the node table."""
    path = DegradationPath.open(args.path)
    manifest = path.manifest
    state = "complete" if path.complete else "unfinished"
    print(f"{path.folder}: {len(path)} nodes, {state}, codec {manifest.codec}, {manifest.method}")
    print(f"teacher {manifest.teacher.fingerprint[:16]}, {len(manifest.tensors)} tensors")
    recording = {key: value for key, value in manifest.recording.items() if key != "student"}
    print(f"recorded: {', '.join(f'{key} {value}' for key, value in recording.items())}\n")
    print(
        f"{'node':>4}  {'step':>7}  {'bytes':>13}  {'distance':>9}  {'in bf16':>9}  survives bf16"
    )
    print(f"{0:>4}  {0:>7}  {'the teacher':>13}  {0:>9.3g}  {0:>9.3g}")
    for node in path:
        cast = "" if node.bf16_distance is None else f"{node.bf16_distance:.3g}"
        kept = "" if node.bf16_survives is None else f"{node.bf16_survives:.0%} of changed weights"
        print(
            f"{node.index:>4}  {node.step:>7}  {node.bytes:>13,}  {node.distance:>9.3g}  "
            f"{cast:>9}  {kept}"
        )
    print("\ndistance: |node - teacher| / |teacher|; in bf16: after a plain cast of both")
    if args.probe:
        from disback_plugin.compare.probe import probe_path, probe_table

        print(f"\n{probe_table(probe_path(args.path))}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Check every file of the path."""
    path = DegradationPath.open(args.path)
    problems = path.verify()
    for problem in problems:
        print(problem)
    print(f"{path.folder}: {len(path)} nodes, {len(problems)} problems")
    return 1 if problems else 0


def repair(args: argparse.Namespace) -> int:
    """Drop leftovers and a torn last node."""
    path = DegradationPath.open(args.path)
    for line in path.repair():
        print(f"dropped {line}")
    print(f"{path.folder}: {len(path)} nodes, whole")
    return 0
