"""The runs of one case, and what must hold of them."""

from pathlib import Path
from typing import Any

import torch

from tests.hosts import checks as common
from tests.hosts.launching import notes, succeed
from tests.swiftbrush import checks
from tests.swiftbrush.hosting import Host, arguments, job, launch

LATEST = ["--resume_from_checkpoint", "latest"]


class Case:
    """Jobs of one host with the same options, in one folder."""

    def __init__(self, host: Host, options: list[str], folder: Path) -> None:
        self.host, self.options, self.folder = host, options, folder

    def job(
        self, name: str, path: str | None = None, output: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """`path`: with --disback, recorded there; `output`: resume that run's newest checkpoint."""
        host, flags = self.host, list(self.options)
        tree = {"raw": host.raw, "plain": host.plain}.get(name, host.patched)
        if path is not None:
            flags += common.flags(self.folder / path)
        if output is not None:
            flags += LATEST
        if name == "raw":  # it does not start without
            flags += ["--validation_prompts", "red dog"]
        num_steps = common.NUM_STEPS if path else 4
        place = self.folder / (output or name) / "output"
        args = arguments(host.inputs, place, num_steps, *flags)
        return job(tree, self.folder / name, args, **more)

    def reusing(self, path: str) -> dict[str, Any]:
        """A run that walks a recorded path at once."""
        flags = [*self.options, *common.reusing(self.folder / path)]
        num_steps = common.NUM_STEPS - common.RECORD
        args = arguments(self.host.inputs, self.folder / "reused" / "output", num_steps, *flags)
        return job(self.host.patched, self.folder / "reused", args)

    def notes(self, name: str, rank: int = 0) -> list[dict[str, Any]]:
        return notes(self.folder / name, rank)

    def check_off(self, rank: int) -> None:
        """Untouched, repaired, and patched without --disback: the same training."""
        plain = self.notes("plain", rank)
        common.same_training(plain, self.notes("off", rank))
        if self.host.is_real:
            common.same_training(plain, self.notes("raw", rank))

    def check_on(self, rank: int) -> None:
        """Recorded, held, installed, walked back to the teacher."""
        on, path = self.notes("on", rank), self.folder / "path"
        common.generator_is_held(on)
        # float32 also with bf16, which is autocast here
        common.nodes_are_installed(on, path, torch.float32)
        common.fake_score_is_the_node(on, path)
        checks.base_and_optimizer_stay(on, self.notes("plain", rank))
        checks.student_optimizer_waits(on)
        if "--use_ema" in self.options:
            checks.ema_waits(on)
        checks.recorded_from_the_teacher(path)
        calls = self.folder / "on" / f"notes.{rank}.safetensors"
        bf16 = "bf16" in self.options
        checks.outputs_are_the_nodes(on, calls, path, self.host.inputs, bf16)
        assert {line["logged"]["disback/stage"] for line in on} == {0, 1, 2}

    def check_resumed(self, name: str, step: int, rank: int) -> None:
        """It went on with that step, and did what the run without a kill did there."""
        on, resumed = self.notes("on", rank), self.notes(name, rank)
        assert resumed[0]["step"] == step
        common.resumed_is_the_same(on[: step + len(resumed)], resumed)


def run_and_check(host: Host, options: list[str], folder: Path, num_processes: int) -> None:
    """Off, on, SIGKILL while recording, resumed, SIGKILL on the way back, resumed, reused."""
    case = Case(host, options, folder)
    jobs = [case.job("plain"), case.job("off"), case.job("on", "path")]
    if host.is_real:
        jobs.append(case.job("raw"))
    jobs.append(case.job("killed", "killed-path", kill=4))
    jobs.append(case.job("walking", "killed-path", output="killed", kill=8))
    jobs.append(case.job("resumed", "killed-path", output="killed"))
    jobs.append(case.reusing("path"))
    launched = folder / "launch"
    succeed(launch(jobs, launched, num_processes), launched)
    for rank in range(num_processes):
        case.check_off(rank)
        case.check_on(rank)
        case.check_resumed("walking", 2, rank)
        case.check_resumed("resumed", 6, rank)
        assert case.notes("resumed", rank)[-1]["step"] == common.NUM_STEPS - 1
        common.nodes_are_installed(case.notes("on", rank), folder / "killed-path")
        common.walks_at_once(case.notes("reused", rank), case.notes("on", rank))
    first = [case.notes("on", rank)[0]["losses"] for rank in range(num_processes)]
    assert len({str(losses) for losses in first}) == num_processes
