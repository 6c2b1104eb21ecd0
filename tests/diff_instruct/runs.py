"""The runs of one host, and what must hold of them."""

import json
from pathlib import Path

from safetensors.torch import load_file

from tests.diff_instruct.hosting import Host, launch
from tests.hosts import checks
from tests.hosts.launching import notes, succeed

NUM_STEPS = checks.NUM_STEPS + 1  # an even number: its duration counts thousands of images
STATE = "disback-state.safetensors"


def run_and_check(host: Host, folder: Path, num_processes: int) -> None:
    """Repaired only; patched and off; on; stopped while recording and on the way back; resumed."""

    def make(name: str, *extra: str, steps: int = NUM_STEPS, **more: object) -> dict:
        args = host.arguments(folder / name, steps, *extra)
        return host.job(name, folder / name, args, **more)

    def on(name: str, path: str, *extra: str, **more: object) -> dict:
        return make(name, *checks.flags(folder / path), *extra, **more)

    def resume(name: str) -> dict:
        return on(f"resumed-{name}", f"{name}-path", "--disback_resume", str(folder / name))

    jobs = [make("plain", steps=4), make("off", steps=4), on("on", "path")]
    jobs += [on("recording", "recording-path", stop=4), on("walking", "walking-path", stop=8)]
    jobs += [resume("recording"), resume("walking")]
    if num_processes == 1:
        steps = NUM_STEPS - checks.RECORD - 1
        jobs += [make("reused", *checks.reusing(folder / "path"), steps=steps)]
        off = ["--disback", "--disback_arm", "fixed"]
        jobs += [make("fixed", *off, steps=4, stop=2)]
        more = ["--disback_resume", str(folder / "fixed")]
        jobs += [make("resumed-fixed", *off, *more, steps=4)]
        jobs += [on("fake-as-real", "other-path", install_fake_score=6, stop=7)]
    succeed(launch(jobs, folder / "launch", num_processes), folder / "launch")
    for rank in range(num_processes):
        whole = notes(folder / "on", rank)
        assert len(whole) == NUM_STEPS
        checks.same_training(notes(folder / "plain", rank), notes(folder / "off", rank))
        checks.generator_is_held(whole)
        checks.nodes_are_installed(whole, folder / "path")
        checks.fake_score_is_the_node(whole, folder / "path")
        for name, first in (("recording", 3), ("walking", 7)):
            resumed = notes(folder / f"resumed-{name}", rank)
            assert resumed[0]["step"] == first
            checks.resumed_is_the_same(whole, resumed)
    for name in ("recording", "walking"):
        same_state(folder / "on" / STATE, folder / f"resumed-{name}" / STATE)
    if num_processes == 1:
        checks.walks_at_once(notes(folder / "reused"), whole[:-1])
        checks.same_training(notes(folder / "plain")[:2], notes(folder / "fixed"))
        checks.resumed_is_the_same(notes(folder / "plain"), notes(folder / "resumed-fixed"))
        losses = notes(folder / "fake-as-real")[6]["losses"]
        assert float.fromhex(losses[1]) == 0.0 != float.fromhex(whole[6]["losses"][1])
    averaged_student_is_held_then_moves(folder / "recording" / STATE, folder / "on" / STATE)
    files_and_logs(folder)


def same_state(first: Path, second: Path) -> None:
    """Networks, average, optimizers and random numbers at the end, bit for bit."""
    one, other = load_file(first), load_file(second)
    assert one.keys() == other.keys()
    assert {name.split("/")[0] for name in one} == {"module", "optimizer", "random"}
    for name in one:
        assert one[name].numpy().tobytes() == other[name].numpy().tobytes(), name


def averaged_student_is_held_then_moves(recording: Path, end: Path) -> None:
    """While recording the EMA of the student keeps the bytes of the initial student."""
    before, after = load_file(recording), load_file(end)
    names = [name for name in before if name.startswith("module/Gema/")]
    for name in names:
        own = before[name.replace("Gema", "G")]
        assert own.numpy().tobytes() == before[name].numpy().tobytes(), name
    assert any(before[name].numpy().tobytes() != after[name].numpy().tobytes() for name in names)


def files_and_logs(folder: Path) -> None:
    """One state file beside the snapshots, none without `--disback`; stage and node per tick."""
    assert (folder / "on" / STATE).exists()
    assert len(list((folder / "on").glob("network-snapshot-*.pkl"))) == 7
    assert not (folder / "off" / STATE).exists()
    ticks = [json.loads(line) for line in (folder / "on" / "stats.jsonl").read_text().splitlines()]
    seen = [
        tuple(int(tick[f"disback/{name}"]["mean"]) for name in ("stage", "node")) for tick in ticks
    ]
    # after steps 0, 2, 4 (recording), 6 (node 2), 8 (node 1), 10 and 11 (the teacher)
    assert seen == [(0, 0), (0, 0), (0, 0), (1, 2), (1, 1), (2, 0), (2, 0)]
    assert [tick["disback/distance"]["mean"] > 0 for tick in ticks] == [
        node > 0 for _, node in seen
    ]
    options = json.loads((folder / "on" / "training_options.json").read_text())
    assert options["disback_settings"]["config"]["record"]["at"] == list(checks.AT)
    assert "disback/node" not in (folder / "off" / "stats.jsonl").read_text()


def kill_and_resume(host: Host, folder: Path, num_processes: int = 1) -> None:
    """SIGKILL while recording, then on the way back; as if nothing had happened."""

    def make(name: str, path: str, killed: str = "", **more: object) -> dict:
        extra = ["--disback_resume", str(folder / killed)] if killed else []
        args = host.arguments(folder / name, NUM_STEPS, *checks.flags(folder / path), *extra)
        return host.job("patched", folder / name, args, **more)

    first = [make("on", "path"), make("recording", "killed-path", kill=4)]
    assert launch(first, folder / "launch", num_processes)[0] == -9
    second = [make("walking", "killed-path", "recording", kill=8)]
    assert launch(second, folder / "launch", num_processes)[0] == -9
    third = [make("resumed", "killed-path", "walking")]
    succeed(launch(third, folder / "launch", num_processes), folder / "launch")
    for rank in range(num_processes):
        whole = notes(folder / "on", rank)
        for name, step in (("walking", 3), ("resumed", 7)):
            resumed = notes(folder / name, rank)
            assert resumed[0]["step"] == step
            checks.resumed_is_the_same(whole[: step + len(resumed)], resumed)
    same_state(folder / "on" / STATE, folder / "resumed" / STATE)
    checks.nodes_are_installed(notes(folder / "on"), folder / "killed-path")
