"""The runs of one case, and what must hold of them."""

from pathlib import Path

import torch

from tests.dmd2 import checks
from tests.dmd2.hosting import Host, arguments, job, launch, notes, succeed


def run_and_check(
    host: Host,
    kind: str,
    options: list[str],
    folder: Path,
    num_processes: int,
    dtype: torch.dtype,
) -> None:
    """Repaired only; patched and off; on; stopped while recording and on the way back; resumed."""
    options = [*options, "--log_iters", "2"]

    def make(name: str, path: str | None = None, reuse: Path | None = None, **more: object) -> dict:
        tree, steps = host.patched if name != "plain" else host.plain, 3
        flags: list[str] = []
        if reuse:
            flags, steps = checks.reusing(reuse), checks.NUM_STEPS - checks.RECORD
        if path:
            flags, steps = checks.flags(folder / path / "path"), checks.NUM_STEPS
        args = arguments(kind, host.inputs, folder / name, steps, *options, *flags)
        return job(tree, kind, folder / name, args, **more)

    def resume(name: str, path: str) -> dict:
        return make(name, path, resume=["--checkpoint_path", str(folder / path / "cache")])

    jobs = [make("plain"), make("off"), make("on", "on")]
    jobs += [make("killed-recording", "killed-recording", stop=4)]
    jobs += [make("killed-walking", "killed-walking", stop=8)]
    jobs += [resume("resumed-recording", "killed-recording")]
    jobs += [resume("resumed-walking", "killed-walking")]
    weights = ["--ckpt_only_path", str(folder / "killed-walking" / "cache")]
    jobs += [make("weights-only", "killed-walking", resume=weights)]
    jobs += [make("reused", reuse=folder / "on" / "path")]
    succeed(launch(jobs, folder / "launch", num_processes), folder / "launch")
    for rank in range(num_processes):
        on = notes(folder / "on", rank)
        checks.same_training(notes(folder / "plain", rank), notes(folder / "off", rank))
        checks.generator_is_held(on)
        checks.nodes_are_installed(on, folder / "on" / "path", dtype)
        checks.fake_score_is_the_node(on, folder / "on" / "path")
        for name, first in (("resumed-recording", 3), ("resumed-walking", 7)):
            resumed = notes(folder / name, rank)
            assert resumed[0]["step"] == first
            checks.resumed_is_the_same(on, resumed)
        # weights without optimizers: other losses, the same walk, the teacher at its end
        resumed = [on[0], *notes(folder / "weights-only", rank)]
        checks.nodes_are_installed(resumed, folder / "killed-walking" / "path", dtype)
        checks.walks_at_once(notes(folder / "reused", rank), on)
        checks.every_log_has_stage_and_node(on)
        if rank == 0:
            checks.pictures_on_the_way_back_only(on, losses=not kind.endswith("edm"))
            assert on[-1]["logged"]["disback/stage"] == 2
            assert on[checks.RECORD]["logged"]["disback/distance"] > 0


def kill_and_resume(host: Host, kind: str, folder: Path, num_processes: int = 1) -> None:
    """SIGKILL while recording, then inside a save on the way back; as if nothing had happened."""

    def make(name: str, path: str, **more: object) -> dict:
        args = arguments(kind, host.inputs, folder / name, checks.NUM_STEPS, "--log_iters", "2")
        args += checks.flags(folder / path)
        return job(host.patched, kind, folder / name, args, **more)

    def resume(killed: str, where: str = "cache") -> list[str]:
        return ["--checkpoint_path", str(folder / killed / where)]

    first = [make("on", "path"), make("recording", "killed-path", kill=4)]
    assert launch(first, folder / "launch", num_processes)[0] == -9
    second = [make("walking", "killed-path", resume=resume("recording"), kill_in_save=8)]
    assert launch(second, folder / "launch", num_processes)[0] == -9
    third = [make("resumed", "killed-path", resume=resume("walking", "output"))]
    succeed(launch(third, folder / "launch", num_processes), folder / "launch")
    for rank in range(num_processes):
        on = notes(folder / "on", rank)
        for name, step in (("walking", 3), ("resumed", 9)):
            resumed = notes(folder / name, rank)
            assert resumed[0]["step"] == step
            checks.resumed_is_the_same(on[: step + len(resumed)], resumed)
    on = notes(folder / "on")
    assert notes(folder / "resumed")[-1]["step"] == checks.NUM_STEPS - 1
    checks.nodes_are_installed(on, folder / "killed-path")


def run_and_check_sharded(
    host: Host, kind: str, options: list[str], folder: Path, wrap_from: int
) -> None:
    """The same by gathered weights."""
    options = [*options, "--log_iters", "2"]

    def make(name: str, path: str | None = None, **more: object) -> dict:
        tree, steps = host.patched if name != "plain" else host.plain, checks.NUM_STEPS
        args = arguments(kind, host.inputs, folder / name, steps if path else 3, *options)
        args += checks.flags(folder / path) if path else []
        return job(tree, kind, folder / name, args, **more)

    def resume(name: str, killed: str, flag: str = "--checkpoint_path") -> dict:
        found = [flag, str(folder / killed / "cache")]
        return make(name, f"{killed}-path", resume=found)

    jobs = [make("plain"), make("off"), make("on", "path")]
    jobs += [make("recording", "recording-path", stop=4), make("walking", "walking-path", stop=8)]
    jobs += [resume("resumed-recording", "recording"), resume("resumed-walking", "walking")]
    jobs += [resume("weights-only", "walking", "--ckpt_only_path")]
    succeed(launch(jobs, folder / "launch", 2, wrap_from), folder / "launch")
    for rank in range(2):
        checks.same_training(notes(folder / "plain", rank), notes(folder / "off", rank))
        for name, first in (("recording", 3), ("walking", 7)):
            resumed = notes(folder / f"resumed-{name}", rank)
            assert resumed[0]["step"] == first
            checks.resumed_is_the_same(notes(folder / "on", rank), resumed)
    on = notes(folder / "on")
    checks.generator_is_held(on)
    checks.nodes_are_installed(on, folder / "path", torch.bfloat16)
    checks.fake_score_is_the_node(on, folder / "path")
    # weights without optimizers: other losses, the same walk
    resumed = notes(folder / "weights-only")
    assert resumed[0]["step"] == 6
    checks.nodes_are_installed([on[0], *resumed], folder / "walking-path", torch.bfloat16)
