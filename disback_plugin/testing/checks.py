"""The checks: each takes `make_host` and raises ContractError where the contract is broken."""

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from disback_plugin.errors import DisBackError, InstallError
from disback_plugin.testing.host import ContractError
from disback_plugin.testing.ranks import check_ranks
from disback_plugin.testing.trial import (
    NUM_STEPS,
    RECORD,
    MakeHost,
    Note,
    Trial,
    node_at,
    scratch_folder,
    settings,
)


def check_off(make_host: MakeHost) -> None:
    """Without DisBack, and with it switched off (arm `fixed`), training is the same bit for bit."""
    plain = Trial.start(make_host, None).run(0, 4)
    again = Trial.start(make_host, None).run(0, 4)
    _need_same(plain.notes, again.notes, "two hosts of make_host train differently: seed them")
    if _same(plain.notes[0].student, plain.notes[-1].student):
        raise ContractError("the host's student does not move in 4 steps: nothing could be checked")
    with scratch_folder() as folder:
        off = Trial.start(make_host, settings(folder, "fixed")).run(0, 4)
        _need_same(
            plain.notes, off.notes, "switched off (arm 'fixed'), the host trains differently"
        )
        if (folder / "path").exists():
            raise ContractError("switched off (arm 'fixed'), DisBack wrote a path")


def check_recording(make_host: MakeHost) -> None:
    """While recording, the fake score moves; the student and the real score stay bit for bit."""
    with scratch_folder() as folder:
        trial = Trial.start(make_host, settings(folder))
        before = trial.note(-1, [])
        recording = [*trial.run(0, RECORD.num_steps).notes]
        for note in recording:
            if not _same(before.student, note.student):
                raise ContractError(f"the student moved at step {note.step}, while recording")
            if before.student_state != note.student_state:
                raise ContractError(
                    f"the student's optimizer, schedule or average moved at step {note.step}, "
                    "while recording: skip its update, a zero gradient does not hold it still"
                )
            if not torch.equal(before.real, note.real):
                raise ContractError(f"the real score changed at step {note.step}, while recording")
        if torch.equal(before.fake, recording[-1].fake):
            raise ContractError(
                "the fake score does not move while recording: nodes would be equal"
            )
        first = trial.run(RECORD.num_steps, RECORD.num_steps + 1).notes[-1]
        if _same(before.student, first.student):
            raise ContractError("the student does not move at the first step after recording")


def check_nodes(make_host: MakeHost) -> None:
    """On the way back the real score answers as the fake score did when the node was recorded.

    At the end the teacher answers again, bit for bit.
    """
    with scratch_folder() as folder:
        trial = Trial.start(make_host, settings(folder))
        teacher = trial.note(-1, []).real
        trial.run(0, NUM_STEPS)
        assert trial.disback is not None
        recorded = {
            index: trial.notes[num_done - 1].fake
            for index, num_done in enumerate(RECORD.node_steps, start=1)
        }
        for note in trial.notes[RECORD.num_steps :]:
            node = node_at(note.step)
            if not torch.equal(note.real, recorded[node] if node else teacher):
                what = f"node {node}, recorded after step {RECORD.node_steps[node - 1]}"
                seen = (
                    " (it answers as the teacher does)" if torch.equal(note.real, teacher) else ""
                )
                raise ContractError(
                    f"at step {note.step} the real score does not answer as "
                    f"{what if node else 'the teacher'}{seen}"
                )


def check_used(make_host: MakeHost) -> None:
    """The student learns from what is installed: first from a node, at last from the teacher.

    Against the teacher its first step is another one; its last is the same without DisBack.
    """
    first, last = RECORD.num_steps, NUM_STEPS - 1
    with scratch_folder() as one, scratch_folder() as other:
        path = Trial.start(make_host, settings(one)).run(0, last)
        warm = Trial.start(make_host, settings(other, "warm")).run(0, first + 1)
        if _same(path.notes[first].student, warm.notes[-1].student):
            raise ContractError(
                "the student's first step is the same with a node and with the teacher: the loop "
                "does not ask the installed real score (`with disback.real_score() as network:`)"
            )
        host_state, _ = path.checkpoint()
        path.run(last, last + 1)
    off = Trial.start(make_host, None)
    off.host.load_state_dict(host_state)
    off.run(last, last + 1)
    message = "with the teacher back, the host trains otherwise than without DisBack"
    _need_same(path.notes[last:], off.notes, message)


def check_reuse(make_host: MakeHost) -> None:
    """With a whole path at hand the walk begins at once, and the fake score at the last node."""
    with scratch_folder() as folder:
        recorded = Trial.start(make_host, settings(folder))
        teacher = recorded.note(-1, []).fake
        recorded.run(0, RECORD.num_steps + 1)
        reused = Trial.start(make_host, settings(folder))
        start = reused.note(-1, [])
        (note,) = reused.run(0, 1).notes
    if not torch.equal(note.real, recorded.notes[-1].real):
        raise ContractError("reusing a path, the real score does not answer as its first node")
    if _same(start.student, note.student):
        raise ContractError("reusing a path, the student does not move at the first step")
    node = recorded.notes[RECORD.num_steps - 1].fake  # before the first step's update
    if (note.fake - node).norm() >= (note.fake - teacher).norm():
        raise ContractError(
            "reusing a path, the fake score trains on from the teacher, not from the last node: "
            "does the host's optimizer keep weights of its own?"
        )


def check_strict(make_host: MakeHost) -> None:
    """A node with a missing, renamed, surplus or mis-shaped tensor is refused, nothing changes."""
    with scratch_folder() as folder:
        trial = Trial.start(make_host, settings(folder)).run(0, RECORD.num_steps)
        assert trial.disback is not None
        assert trial.disback.path is not None
        installation, node = trial.disback.installation, trial.disback.path.read(1)
        before = trial.note(-1, []).real
        for what, tensors in _spoilt(node):
            try:
                installation.install(1, tensors)
            except InstallError:
                pass
            else:
                raise ContractError(f"a node with a {what} tensor was installed without an error")
            if not torch.equal(before, trial.note(-1, []).real):
                raise ContractError(f"a refused node with a {what} tensor changed the real score")


def check_resume(make_host: MakeHost) -> None:
    """Killed while recording and on the way back, a resumed run equals the uninterrupted one."""
    with scratch_folder() as folder:
        whole = Trial.start(make_host, settings(folder)).run(0, NUM_STEPS)
    for stop in (RECORD.num_steps // 2, RECORD.num_steps + 3):
        with scratch_folder() as folder:
            killed = Trial.start(make_host, settings(folder)).run(0, stop)
            host_state, disback_state = killed.checkpoint()
            killed.run(stop, stop + 2)  # what it does after the checkpoint is lost
            resumed = Trial.start(make_host, settings(folder))
            assert resumed.disback is not None
            resumed.host.load_state_dict(host_state)
            resumed.disback.load_state_dict(disback_state)
            resumed.run(stop, NUM_STEPS)
        where = f"resumed at step {stop} of {NUM_STEPS}, the run differs from the uninterrupted one"
        _need_same(whole.notes[stop:], resumed.notes, where)


Check = Callable[[MakeHost], None]
CHECKS: dict[str, Check] = {
    "off": check_off,
    "recording": check_recording,
    "nodes": check_nodes,
    "used": check_used,
    "reuse": check_reuse,
    "strict": check_strict,
    "resume": check_resume,
    "ranks": check_ranks,
}


def check_adapter(make_host: MakeHost, skip: Collection[str] = ()) -> list[str]:
    """Run all checks on hosts that `make_host()` makes; returns the names of those that passed.

    make_host: a function at the top level of a module (the check `ranks` imports it in processes
    of its own). skip: names of checks that the host has no use for, e.g. `ranks` for a host of
    one process. Raises ContractError at the first broken check, prefixed by its name. In a process
    group, called on every rank, all checks run on hosts of that many processes.
    """
    unknown = sorted(set(skip) - set(CHECKS))
    if unknown:
        raise ValueError(f"no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    passed = []
    for name, check in CHECKS.items():
        if name not in skip:
            try:
                check(make_host)
            except (ContractError, DisBackError) as error:  # the session sees some of it itself
                raise ContractError(f"{name}: {error}") from error
            passed.append(name)
    return passed


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    pairs = zip(first.values(), second.values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def _need_same(first: list[Note], second: list[Note], message: str) -> None:
    for one, other in zip(first, second, strict=True):
        equal = {
            "losses": one.losses == other.losses,
            "student": _same(one.student, other.student),
            "student_state": one.student_state == other.student_state,
            "real score": torch.equal(one.real, other.real),
            "fake score": torch.equal(one.fake, other.fake),
        }
        if not all(equal.values()):
            wrong = ", ".join(name for name, same in equal.items() if not same)
            raise ContractError(f"{message} (first at step {one.step}: {wrong})")


def _spoilt(node: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    *_, name = node  # the last one: those before it fit, and must not be copied either
    others = {key: value for key, value in node.items() if key != name}
    yield "missing", others
    yield "renamed", {**others, f"{name}_": node[name]}
    yield "surplus", {**node, f"{name}_": node[name]}
    yield "mis-shaped", {**others, name: torch.zeros(*node[name].shape, 2)}
