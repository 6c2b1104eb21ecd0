"""`disback path`: look at, check and repair a degradation path."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.errors import PathError, count

EXAMPLES = """  disback path show runs/digits-ddpm/runs/disback-seed0/path --probe
  disback path verify runs/digits-ddpm/runs/disback-seed0/path
  disback path convert path small --codec bounded --teacher sdxl/unet
  disback path import old/checkpoint_model_* --teacher sdxl/unet --out path
"""
CODECS = ("full", "delta", "bounded")  # config.Codec, without pydantic, which is slow to start
PATH = "runs/digits-ddpm/runs/disback-seed0/path"
SHOW_EXAMPLES = f"""  disback path show {PATH}
  disback path show {PATH} --probe
"""
IMPORT_EXAMPLES = """  disback path import old/checkpoint_model_* --teacher sdxl/unet --out path
  disback path import old/checkpoint_model_* --teacher teacher.safetensors --out path --codec delta
"""
CONVERT_EXAMPLES = """  disback path convert path small --codec bounded --teacher sdxl/unet
  disback path convert small again --codec full --teacher teacher.safetensors
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
    add_convert(actions)
    add_import(actions)


def add_convert(actions: Any) -> None:
    """Register `disback path convert`."""
    summary = "write a path again in another codec; the old one stays as it is"
    sub = add_command(actions, "convert", summary, CONVERT_EXAMPLES)
    sub.add_argument("path", type=Path, metavar="SRC", help="folder with path.json")
    sub.add_argument("out", type=Path, metavar="DST", help="folder to make")
    sub.add_argument("--codec", choices=CODECS, required=True, help="how to store")
    sub.add_argument(
        "--teacher",
        type=Path,
        help="its weights file or diffusers folder (default: the one that SRC keeps)",
    )
    sub.set_defaults(command=convert_path)


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
    sub.add_argument("--codec", choices=CODECS, default="full", help="how to store")
    sub.set_defaults(command=import_folders)


def import_folders(args: argparse.Namespace) -> int:
    """Import recorded folders and show the path."""
    from disback_plugin.adapters.dmd2.published import import_published, read_teacher

    import_published(args.folders, read_teacher(args.teacher), args.out, args.codec)
    return show(argparse.Namespace(path=args.out, probe=False))


def convert_path(args: argparse.Namespace) -> int:
    """Convert, with a line a node, and say what lossy codecs have lost for good."""
    from disback_plugin.adapters.dmd2.published import read_teacher
    from disback_plugin.path import DegradationPath, get_codec
    from disback_plugin.path.conversion import ConvertedNode, convert, passed_codecs

    teacher = None if args.teacher is None else read_teacher(args.teacher)
    path = DegradationPath.open(args.path, teacher)
    if teacher is None and path.manifest.teacher.file is None:
        raise PathError(
            f"{args.path} does not keep its teacher: give --teacher, its weights file or "
            "diffusers folder"
        )
    print(f"{'node':>4}  {'bytes before':>15}  {'after':>15}  error")

    def tell(node: ConvertedNode) -> None:
        before, after = node.before.bytes, node.after.bytes
        print(f"{node.after.index:>4}  {before:>15,}  {after:>15,}  {node.error:.2%}", flush=True)

    made = convert(path, args.out, args.codec, tell)
    print("error: |after - before| / |before - teacher|; every node was read again and verified")
    for codec in passed_codecs(made):
        if loss := get_codec(codec).loss:
            print(f"the nodes were stored as {codec!r} before: what that lost stays lost, {loss}")
    before, after = (sum(node.bytes for node in one) for one in (path, made))
    print(f"{args.out}: {count(len(made), 'node')}, {after / before:.0%} of the bytes")
    return 0


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
    settings = {k: v for k, v in manifest.recording.items() if k not in ("student", "host")}
    print(f"recorded: {', '.join(f'{key} {value}' for key, value in settings.items())}")
    if host := manifest.recording.get("host"):
        print(f"under: {', '.join(f'{key} {value}' for key, value in host.items())}")
    print()
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
