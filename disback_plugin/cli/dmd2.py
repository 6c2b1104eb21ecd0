"""`disback dmd2`: make `--disback` a flag of a DMD2 checkout's own training scripts."""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.config_base import nearest
from disback_plugin.errors import ConfigError

EXAMPLES = """  git clone https://github.com/tianweiy/DMD2
  disback dmd2 apply DMD2                             then: python main/train_sd.py --disback ...
  disback dmd2 status DMD2
  disback dmd2 apply DMD2 --repairs dataloader-config,wandb-mode
  disback dmd2 diff DMD2 | less
  disback dmd2 revert DMD2                            the exact bytes from before
"""


def add_parser(commands: Any) -> None:
    """Register the command with its actions."""
    parser = add_command(commands, "dmd2", "patch a DMD2 checkout, or undo it", EXAMPLES)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, action, summary in (
        ("apply", apply, "add --disback and the repairs; again: nothing, or the new choice"),
        ("status", status, "per patch: applied, applicable or conflicting"),
        ("diff", diff, "print the unified diff"),
        ("revert", revert, "restore the exact bytes from before"),
    ):
        sub = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:])
        sub.add_argument("checkout", type=Path, metavar="CHECKOUT", help="folder of a DMD2 clone")
        sub.set_defaults(command=action)
        if name in ("apply", "diff"):
            sub.add_argument(
                "--repairs",
                default="all",
                metavar="all|none|NAME,...",
                help="which repairs (default: all); their names: disback dmd2 status",
            )
        if name in ("apply", "revert"):
            sub.add_argument("--force", action="store_true", help="also with a changed tree")


def apply(args: argparse.Namespace) -> int:
    """Patch the checkout."""
    names = _names(args.repairs)
    changed = _open(args.checkout).apply(names, args.force)
    done = f"{len(names)} patches {'applied' if changed else 'already applied'}"
    _show([*(f"patched {file}" for file in changed), f"{args.checkout}: {done}"])
    return 0


def status(args: argparse.Namespace) -> int:
    """Print the state of every patch; exit code 1 if any conflicts or the tree is unknown.

    A tree that was accepted by `apply --force` is called so, and alone is no reason for a 1.
    """
    tree = _open(args.checkout)
    problems, states = tree.differences(), tree.status()
    kinds = {problem.kind.name for problem in problems}
    accepted = "unknown tree, accepted by --force"
    head = {(): tree.host, ("ACCEPTED",): accepted}.get(tuple(kinds), "unknown tree")
    lines = [f"{args.checkout}: {head}", *(f"  {problem}" for problem in problems)]
    for state in states:
        patch = state.patch
        lines.append(f"  {state.state:<11} {patch.kind:<8} {patch.name:<18} {patch.summary}")
        if state.reason:
            lines.append(f"              {state.reason}")
    _show(lines)
    conflicting = any(state.state == "conflicting" for state in states)
    return 1 if conflicting or kinds - {"ACCEPTED"} else 0


def diff(args: argparse.Namespace) -> int:
    """Print what the patches change, against the originals."""
    _show(_open(args.checkout).diff(_names(args.repairs)).split("\n")[:-1])
    return 0


def revert(args: argparse.Namespace) -> int:
    """Undo all patches."""
    restored = _open(args.checkout).revert(args.force)
    end = "as it was" if restored else "nothing to revert"
    _show([*(f"restored {file}" for file in restored), f"{args.checkout}: {end}"])
    return 0


def _show(lines: Iterable[str]) -> None:
    """Print lines; a reader that has seen enough (`| head`) is no error."""
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _patches() -> Any:
    """The package of patches; it needs libcst, so only here."""
    try:
        import dmd2_patches
    except ModuleNotFoundError as error:
        if error.name != "libcst":
            raise
        raise ConfigError("patching needs libcst: pip install 'disback_plugin[dmd2]'") from None
    return dmd2_patches


def _open(folder: Path) -> Any:
    return _patches().checkout(folder)


def _names(repairs: str) -> list[str]:
    package = _patches()
    valid = [patch.name for patch in package.REPAIRS]
    chosen = list(dict.fromkeys(name.strip() for name in repairs.split(",")))
    if "" in chosen:
        raise ConfigError(f"--repairs: empty name; all, none, or names: {', '.join(valid)}")
    if len(chosen) > 1 and {"all", "none"} & set(chosen):
        raise ConfigError(f"--repairs: 'all' and 'none' stand alone, not in a list: {repairs!r}")
    chosen = {"all": valid, "none": []}.get(chosen[0], chosen)
    for name in chosen:
        if name not in valid:
            raise ConfigError(f"--repairs: unknown repair {name!r}; {nearest(name, valid)}")
    return [*chosen, *(patch.name for patch in package.FEATURES)]
