"""What was run of each host: the facts behind `disback adapters` and README's support table.

Tests hold them against the table of host cases, so a case that goes, or comes, changes both.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Support:
    """A host, the release that the tests run, and in which ways.

    cases: its name in the tests; adapters: ours for it; known: releases that are let in; package:
    what pip installs it as, "" where it is a checkout, which `command` looks at.
    """

    title: str
    cases: str
    adapters: tuple[str, ...]
    release: str
    known: str
    package: str = ""
    command: str = ""
    processes: int = 2
    fsdp: bool = False
    bf16: bool = False
    lora: bool = False
    gpu: bool = False

    def found(self) -> str:
        """Which version is here."""
        if self.command:
            return f"a checkout: `disback {self.command} status CHECKOUT` tells"
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return f"{self.package} is not installed"

    def ran(self) -> str:
        """What was run, in a line."""
        count = "1 process" if self.processes == 1 else f"1 and {self.processes} processes"
        ways = {"FSDP": self.fsdp, "bf16": self.bf16, "LoRA": self.lora, "GPU": self.gpu}
        yes = ", ".join([count, *(name for name, was in ways.items() if was)])
        no = ", ".join(name for name, was in ways.items() if not was)
        return f"{self.release}: {yes}" + (f"; not: {no}" if no else "")


class _FastGen(Support):
    def found(self) -> str:
        """Another package on PyPI has its name: this one has callbacks."""
        spec = find_spec("fastgen")
        places = spec.submodule_search_locations or [] if spec else []
        if not any(Path(place, "callbacks").is_dir() for place in places):
            return "no fastgen that can be imported here"
        return super().found() if spec and spec.origin else "fastgen, without a version"


SUPPORT = (
    Support(
        title="DMD2",
        cases="dmd2",
        adapters=("dmd2-sd", "dmd2-edm"),
        release="8d8fa55",
        known="that commit; another with --force, patch by patch",
        command="dmd2",
        fsdp=True,
        bf16=True,
        lora=True,
    ),
    Support(
        title="Diff-Instruct",
        cases="diff_instruct",
        adapters=("diff-instruct",),
        release="0c37389",
        known="that commit; another with --force, patch by patch",
        command="diff-instruct",
    ),
    Support(
        title="SwiftBrush",
        cases="swiftbrush",
        adapters=("swiftbrush",),
        release="686c231",
        known="that commit; another with --force, patch by patch",
        command="swiftbrush",
        bf16=True,
        lora=True,
    ),
    _FastGen(
        title="FastGen",
        cases="fastgen",
        adapters=("fastgen",),
        release="34f30e8",
        known="what has that commit's callback hooks and roles, see docs/hosts.md",
        package="fastgen",
    ),
    Support(
        title="NVIDIA Model Optimizer",
        cases="modelopt",
        adapters=("modelopt",),
        release="0.47.0",
        known="what has that release's DMDPipeline",
        package="nvidia-modelopt",
        fsdp=True,
        bf16=True,
    ),
)


def support_of(adapter: str) -> Support | None:
    """The host of one of our adapters; None for your own loop and for other packages'."""
    return next((host for host in SUPPORT if adapter in host.adapters), None)


def markdown() -> str:
    """README's support table."""
    lines = ["| host | release that was run | processes | FSDP | bf16 | LoRA | GPU |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for host in SUPPORT:
        ways = (host.fsdp, host.bf16, host.lora, host.gpu)
        processes = "1" if host.processes == 1 else f"1, {host.processes}"
        cells = [host.title, host.release, processes, *("yes" if was else "-" for was in ways)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
