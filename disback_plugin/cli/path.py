"""`disback path`: look at, check and repair a degradation path."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.errors import count

EXAMPLES = """  disback path show runs/digits-ddpm/runs/disback-seed0/path --probe
  disback path verify runs/digits-ddpm/runs/disback-seed0/path
  disback path import old/checkpoint_model_* --teacher sdxl/unet --out path
"""
PATH = "runs/digits-ddpm/runs/disback-seed0/path"
SHOW_EXAMPLES = f"""  disback path show {PATH}
  disback path show {PATH} --probe
"""
IMPORT_EXAMPLES = """  disback path import old/checkpoint_model_* --teacher sdxl/unet --out path
  disback path import old/checkpoint_model_* --teacher teacher.safetensors --out path --codec delta
"""


def add_parser(commands: Any) -> None:
    """Register the command with its actions."""
    parser = add_command(commands, "path", "look at, check or repair a degradation path", EXAMPLES)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, action, summary, examples in (
        (
            "show",
            show,
            "list the nodes: step, bytes, distance to the teacher, what bfloat16 keeps",
            SHOW_EXAMPLES,
        ),
        (
            "verify",
            verify,
            "read every node and check it; exit code 1 if anything is damaged",
            f"  disback path verify {PATH}\n",
        ),
        (
            "repair",
            repair,
            "drop what a crash left: temp files, unlisted nodes, a torn last node",
            f"  disback path repair {PATH}\n",
        ),
    ):
        sub = add_command(actions, name, summary, examples)
        sub.add_argument("path", type=Path, metavar="PATH", help="folder with path.json")
        sub.set_defaults(command=action)
        if action is show:
            sub.add_argument(
                "--probe",
                action="store_true",
                help="also measure each node on the student it was recorded for: what it knows of "
                "its samples, and how it pulls compared with the teacher (a path of `disback run`)",
            )
    add_import(actions)


def add_import(actions: Any) -> None:
    """Register `disback path import`."""
    summary = "make a path from nodes recorded by the paper's published code"
    sub = add_command(actions, "import", summary, IMPORT_EXAMPLES)
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
    from disback_plugin.adapters.dmd2.published import import_published, read_teacher

    import_published(args.folders, read_teacher(args.teacher), args.out, args.codec)
    return show(argparse.Namespace(path=args.out, probe=False))


def show(args: argparse.Namespace) -> int:
    """Print the node table; a node whose file has another size than it should is marked."""
    from disback_plugin.path.inspection import wrong_sizes
    from disback_plugin.path.manifest import read_manifest

    manifest = read_manifest(args.path)
    state = "complete" if manifest.complete else "unfinished"
    nodes, tensors = count(len(manifest.nodes), "node"), count(len(manifest.tensors), "tensor")
    print(f"{args.path}: {nodes}, {state}, codec {manifest.codec}, {manifest.method}")
    kept = f", kept in {manifest.teacher.file}" if manifest.teacher.file else ""
    print(f"teacher {manifest.teacher.fingerprint[:16]}, {tensors}{kept}")
    settings = {k: v for k, v in manifest.recording.items() if k != "student"}
    print(f"recorded: {', '.join(f'{key} {value}' for key, value in settings.items())}\n")
    print(
        f"{'node':>4}  {'step':>7}  {'bytes':>13}  {'distance':>9}  {'in bf16':>9}  survives bf16"
    )
    print(f"{0:>4}  {0:>7}  {'the teacher':>13}  {0:>9.3g}  {0:>9.3g}")
    wrong = wrong_sizes(args.path, manifest)
    for node in manifest.nodes:
        cast = "" if node.bf16_distance is None else f"{node.bf16_distance:.3g}"
        kept = "" if node.bf16_survives is None else f"{node.bf16_survives:.0%} of changed weights"
        print(
            f"{node.index:>4}  {node.step:>7}  {node.bytes:>13,}  {node.distance:>9.3g}  "
            f"{cast:>9}  {kept}{'  <- cannot be read' if node.index in wrong else ''}"
        )
    print("\ndistance: |node - teacher| / |teacher|; in bf16: after a plain cast of both")
    for problem in wrong.values():
        print(problem)
    if wrong:
        command = shlex.join(["disback", "path", "verify", str(args.path)])
        print(f"only sizes were looked at; to check every byte: {command}")
    if args.probe:
        from disback_plugin.lab.trainer.probe import probe_path, probe_table

        print(f"\n{probe_table(probe_path(args.path))}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Check every file of the path."""
    from disback_plugin.path import DegradationPath

    path = DegradationPath.open(args.path)
    problems = path.verify()
    for problem in problems:
        print(problem)
    found = count(len(problems), "problem")
    print(f"{path.folder}: {count(len(path), 'node')}, {found}")
    return 1 if problems else 0


def repair(args: argparse.Namespace) -> int:
    """Drop leftovers and a torn last node."""
    from disback_plugin.path import DegradationPath

    path = DegradationPath.open(args.path)
    for line in path.repair():
        print(f"dropped {line}")
    print(f"{path.folder}: {count(len(path), 'node')}, whole")
    return 0
