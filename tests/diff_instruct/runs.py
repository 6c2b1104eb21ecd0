"""The runs of one host, and what must hold of them."""

import json
from pathlib import Path

from safetensors.torch import load_file

from tests.diff_instruct.hosting import BATCH, Host, launch
from tests.hosts import checks
from tests.hosts.launching import notes, succeed

NUM_STEPS = checks.NUM_STEPS + 1  # an even number: its duration counts thousands of images
STATE = "disback-state.safetensors"


def run_and_check(host: Host, folder: Path, num_processes: int) -> None:
    """Repaired only; patched and off; on; SIGKILL while recording, resumed, SIGKILL on the way
    back, resumed.
    """

    rounds = [] if num_processes == 1 else ["--batch-gpu", str(BATCH // num_processes // 2)]

    def make(name: str, *extra: str, steps: int = NUM_STEPS, **more: object) -> dict:
        args = host.arguments(folder / name, steps, *rounds, *extra)
        return host.job(name, folder / name, args, **more)

    def on(name: str, path: str, killed: str = "", **more: object) -> dict:
        extra = ["--disback_resume", str(folder / killed)] if killed else []
        return make(name, *checks.flags(folder / path), *extra, **more)

    jobs = [make("plain", steps=4), make("off", steps=4), on("on", "path")]
    jobs += [on("recording", "killed-path", kill=4)]
    jobs += [on("walking", "killed-path", "recording", kill=8)]
    jobs += [on("resumed", "killed-path", "walking")]
    if num_processes == 1:
        steps = NUM_STEPS - checks.RECORD - 1
        jobs += [make("reused", *checks.reusing(folder / "path"), steps=steps)]
        off = ["--disback", "--disback_arm", "fixed"]
        jobs += [make("fixed", *off, steps=4, kill=2)]
        more = ["--disback_resume", str(folder / "fixed")]
        jobs += [make("resumed-fixed", *off, *more, steps=4)]
        jobs += [on("fake-as-real", "other-path", install_fake_score=6, stop=7)]
    succeed(launch(jobs, folder / "launch", num_processes), folder / "launch")
    for rank in range(num_processes):
        whole = notes(folder / "on", rank)
        assert len(whole) == NUM_STEPS
        assert whole[0]["losses"][0].count(" ") == (num_processes > 1)  # two rounds accumulated
        checks.same_training(notes(folder / "plain", rank), notes(folder / "off", rank))
        checks.generator_is_held(whole)
        checks.nodes_are_installed(whole, folder / "path")
        checks.fake_score_is_the_node(whole, folder / "path")
        for name, first in (("walking", 3), ("resumed", 7)):
            resumed = notes(folder / name, rank)
            assert resumed[0]["step"] == first
            checks.resumed_is_the_same(whole[: first + len(resumed)], resumed)
        assert resumed[-1]["step"] == NUM_STEPS - 1
    same_state(folder / "on" / STATE, folder / "resumed" / STATE)
    checks.nodes_are_installed(notes(folder / "on"), folder / "killed-path")
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
    """While recording the EMA of the student keeps the bytes of the initial student.

    And its optimizer, the second, has made no step: not one with a zero gradient either.
    """
    before, after = load_file(recording), load_file(end)
    moments = {name for name in after if name.startswith("optimizer/1/")}
    assert moments
    assert moments.isdisjoint(before)
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
