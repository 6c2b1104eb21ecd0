"""`disback dmd2`: make `--disback` a flag of a DMD2 checkout's own training scripts."""

import argparse
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
    for file in changed:
        print(f"patched {file}")
    print(f"{args.checkout}: {len(names)} patches {'applied' if changed else 'already applied'}")
    return 0


def status(args: argparse.Namespace) -> int:
    """Print the state of every patch; exit code 1 if any conflicts or the tree is unknown."""
    tree = _open(args.checkout)
    problems, states = tree.differences(), tree.status()
    print(f"{args.checkout}: {tree.host}" if not problems else f"{args.checkout}: unknown tree")
    for problem in problems:
        print(f"  {problem}")
    for state in states:
        patch = state.patch
        print(f"  {state.state:<11} {patch.kind:<8} {patch.name:<18} {patch.summary}")
        if state.reason:
            print(f"              {state.reason}")
    return 1 if problems or any(state.state == "conflicting" for state in states) else 0


def diff(args: argparse.Namespace) -> int:
    """Print what the patches change, against the originals."""
    print(_open(args.checkout).diff(_names(args.repairs)), end="")
    return 0


def revert(args: argparse.Namespace) -> int:
    """Undo all patches."""
    restored = _open(args.checkout).revert(args.force)
    for file in restored:
        print(f"restored {file}")
    print(f"{args.checkout}: {'as it was' if restored else 'nothing to revert'}")
    return 0


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
    chosen = {"all": valid, "none": []}.get(repairs, repairs.split(","))
    for name in chosen:
        if name not in valid:
            raise ConfigError(f"--repairs: unknown repair {name!r}; {nearest(name, valid)}")
    return [*chosen, *(patch.name for patch in package.FEATURES)]
