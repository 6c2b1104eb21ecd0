"""`disback dmd2`, `diff-instruct`, `swiftbrush`: `--disback` for a checkout's own scripts."""

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.cli.showing import show
from disback_plugin.errors import ConfigError, count


@dataclass(frozen=True)
class PatchedHost:
    """A trainer whose checkout can be patched, its command also the name of its pip extra.

    `package` holds its patches: `REPAIRS`, `FEATURES` and `checkout(root) -> Checkout`.
    """

    command: str
    package: str
    title: str
    url: str
    train: str  # what a user runs once it is patched
    repair: str  # one or more of its repairs, for the help

    @property
    def examples(self) -> str:
        """What the help ends with."""
        lines = (
            (f"git clone {self.url} {self.title}", ""),
            (f"disback {self.command} apply {self.title}", ""),
            (f"{self.train} --disback ...", f"in {self.title}"),
            (f"disback {self.command} status {self.title}", ""),
            (f"disback {self.command} apply {self.title} --repairs {self.repair}", ""),
            (f"disback {self.command} diff {self.title} | less", ""),
            (f"disback {self.command} revert {self.title}", "the exact bytes from before"),
        )
        return "".join(f"  {command:<38}  {note}".rstrip() + "\n" for command, note in lines)

    def examples_of(self, action: str) -> str:
        """Those of one action."""
        own = f"disback {self.command} {action} "
        return "".join(line for line in self.examples.splitlines(True) if own in line)


HOSTS = (
    PatchedHost(
        command="dmd2",
        package="dmd2_patches",
        title="DMD2",
        url="https://github.com/tianweiy/DMD2",
        train="python main/train_sd.py",
        repair="dataloader-config,wandb-mode",
    ),
    PatchedHost(
        command="diff-instruct",
        package="diff_instruct_patches",
        title="Diff-Instruct",
        url="https://github.com/pkulwj1994/diff_instruct",
        train="python di_train.py",
        repair="sampler,device",
    ),
    PatchedHost(
        command="swiftbrush",
        package="swiftbrush_patches",
        title="SwiftBrush",
        url="https://github.com/VinAIResearch/SwiftBrush",
        train="python train_swiftbrush.py",
        repair="student-checkpoints",
    ),
)


def add_parser(commands: Any) -> None:
    """Register a command per host, each with its actions."""
    force = {
        "apply": "also with a tree that is not the known release's",
        "revert": "also where files were changed since: those changes are dropped",
    }
    for host in HOSTS:
        summary = f"patch a {host.title} checkout, or undo it"
        parser = add_command(commands, host.command, summary, host.examples)
        actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
        for name, action, what in (
            ("apply", apply, "add --disback and the repairs; again: nothing, or the new choice"),
            ("status", status, "per patch: applied, applicable, outdated, changed or conflicting"),
            ("diff", diff, "print the unified diff"),
            ("revert", revert, "restore the exact bytes from before"),
        ):
            sub = add_command(actions, name, what, host.examples_of(name))
            folder = f"folder of a {host.title} clone"
            sub.add_argument("checkout", type=Path, metavar="CHECKOUT", help=folder)
            sub.set_defaults(command=action, host=host)
            if name in ("apply", "diff"):
                sub.add_argument(
                    "--repairs",
                    default="all",
                    metavar="all|none|NAME,...",
                    help=f"which repairs (default: all); names: disback {host.command} status",
                )
            if name in ("apply", "revert"):
                sub.add_argument("--force", action="store_true", help=force[name])


def apply(args: argparse.Namespace) -> int:
    """Patch the checkout."""
    names = _names(args)
    changed = _open(args).apply(names, args.force)
    done = f"{count(len(names), 'patch', 'patches')} {'applied' if changed else 'already applied'}"
    show([*(f"patched {file}" for file in changed), f"{args.checkout}: {done}"])
    return 0


def status(args: argparse.Namespace) -> int:
    """Print the state of every patch; exit code 1 if any conflicts or the tree is unknown.

    A tree that was accepted by `apply --force` is called so, and alone is no reason for a 1.
    """
    tree = _open(args)
    problems, states = tree.differences(), tree.status()
    kinds = {problem.kind.name for problem in problems}
    accepted = "unknown tree, accepted by --force"
    head = {(): tree.host, ("ACCEPTED",): accepted}.get(tuple(kinds), "unknown tree")
    lines = [f"{args.checkout}: {head}", *(f"  {problem}" for problem in problems)]
    if left := tree.leftovers():
        lines.append(
            f"  left by a command that was killed: {', '.join(left)}: apply or revert removes them"
        )
    width = max(len(state.patch.name) for state in states)
    for state in states:
        patch = state.patch
        lines.append(f"  {state.state:<11} {patch.kind:<8} {patch.name:<{width}}  {patch.summary}")
        if state.reason:
            lines.append(f"              {state.reason}")
    show(lines)
    conflicting = any(state.state == "conflicting" for state in states)
    return 1 if conflicting or kinds - {"ACCEPTED"} else 0


def diff(args: argparse.Namespace) -> int:
    """Print what the patches change, against the originals."""
    show(_open(args).diff(_names(args)).split("\n")[:-1])
    return 0


def revert(args: argparse.Namespace) -> int:
    """Undo all patches."""
    tree = _open(args)
    left, restored = tree.leftovers(), tree.revert(args.force)
    done = [*(f"restored {file}" for file in restored), *(f"removed {file}" for file in left)]
    show([*done, f"{args.checkout}: {'as it was' if done else 'nothing to revert'}"])
    return 0


def _patches(host: PatchedHost) -> Any:
    """The host's package of patches; it needs libcst, so only here."""
    try:
        return importlib.import_module(host.package)
    except ModuleNotFoundError as error:
        extra = f"'disback_plugin[{host.command}]'"
        if error.name == "libcst":
            raise ConfigError(f"patching needs libcst: pip install {extra}") from None
        if error.name == host.package:
            raise ConfigError(
                f"the patches for {host.title} ({host.package}) are not installed: "
                f"pip install {extra} from a release that has them"
            ) from None
        raise


def _open(args: argparse.Namespace) -> Any:
    return _patches(args.host).checkout(args.checkout)


def _names(args: argparse.Namespace) -> list[str]:
    from disback_plugin.config_base import nearest

    package, repairs = _patches(args.host), args.repairs
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
