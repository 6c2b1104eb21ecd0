"""The next node is made ready in the background: the same bits, errors by name, nothing left."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from disback_plugin import DegradationPath, PathNodeScheduler
from disback_plugin.errors import InstallError, PathError
from disback_plugin.path import TeacherReference
from disback_plugin.real_score import InPlace, SeparateModule
from disback_plugin.real_score.ahead import Ahead
from disback_plugin.real_score.copying import Casting
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.pieces import whole_pieces
from disback_plugin.real_score.staging import install_node, stage_node
from disback_plugin.schedule import FixedInterval
from tests.path.folders import damage_in_place
from tests.real_score.test_installation import make_path
from tests.toy import ToyHost, same, tensors_of


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("disback")]


def walk(host, path, prefetch, kind=InPlace):
    installation = kind(host.teacher, host.fake_score, "stochastic")
    return PathNodeScheduler(installation, path, FixedInterval(interval=2), prefetch=prefetch)


@pytest.mark.parametrize("codec", ["full", "delta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [InPlace, SeparateModule])
def test_the_same_bits_answer_and_the_same_is_told_with_and_without(tmp_path, codec, dtype, kind):
    seen = []
    for prefetch in (False, True):
        host = ToyHost(teacher_dtype=dtype)
        path = make_path(tmp_path / str(prefetch), ToyHost(), codec=codec)
        path = DegradationPath.open(path.folder, tensors_of(ToyHost().teacher))
        strategy = walk(host, path, prefetch, kind)
        strategy.installation.reference = TeacherReference.of(tensors_of(ToyHost().teacher))
        for step in range(6):
            switch = strategy.begin_step(step)
            ready = [1, 1, 0, 0, None, None] if kind is InPlace else [1, 1, None, None, None, None]
            assert not prefetch or strategy._ahead.node == ready[step]
            with strategy.evaluate() as real:
                seen.append((prefetch, switch, tensors_of(real)))
    off, on = seen[:6], seen[6:]
    for (_, switch, tensors), (_, other, others) in zip(off, on, strict=True):
        assert switch == other
        assert same(tensors, others)
    assert [entry[1].node for entry in on if entry[1]] == [2, 1, 0]


def test_a_staged_switch_only_copies(tmp_path, monkeypatch):
    host = ToyHost()
    path = make_path(tmp_path, host)
    strategy = walk(host, path, prefetch=True)
    strategy.begin_step(0)
    strategy._ahead._task.join()
    (path.folder / path.nodes[0].file).unlink()  # it has been read and checked
    monkeypatch.setattr("disback_plugin.real_score.copying.cast", None)
    assert strategy.begin_step(2).node == 1


def test_damage_is_an_error_at_the_next_step_and_nothing_of_it_is_installed(tmp_path):
    host = ToyHost()
    path = make_path(tmp_path, host)
    file = path.folder / path.nodes[0].file
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    strategy = walk(host, path, prefetch=True)
    strategy.begin_step(0)
    before = tensors_of(host.teacher)
    strategy._ahead._task.join()
    with pytest.raises(PathError, match="node_0001.safetensors is damaged"):
        strategy.begin_step(1)
    assert strategy.begin_step(1) is None  # told once; the node that answers is whole
    with pytest.raises(PathError, match="node_0001.safetensors is damaged"):
        strategy.begin_step(2)
    assert same(tensors_of(host.teacher), before)
    assert threads() == []


def test_what_becomes_damaged_while_a_node_is_made_ready_is_an_error(tmp_path, monkeypatch):
    host = ToyHost()
    path = make_path(tmp_path, host)
    strategy = walk(host, path, prefetch=True)

    def late(pieces, node, *more):
        damage_in_place(node.file.file)
        return stage_node(pieces, node, *more)

    monkeypatch.setattr("disback_plugin.real_score.whole.stage_node", late)
    strategy.begin_step(0)
    strategy._ahead._task.join()
    with pytest.raises(PathError, match="node_0001.safetensors is damaged"):
        strategy.begin_step(1)


def test_what_was_staged_is_counted_and_watched_as_any_node():
    node = {"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(3), "n": torch.tensor(2)}
    weight = torch.ones(2, 3, dtype=torch.bfloat16)
    own = {"w": weight, "b": torch.zeros(3), "n": torch.tensor(1)}
    reports = []
    for staged in (False, True):
        live = {name: value.clone() for name, value in own.items()}
        live["tied"] = live["w"]
        pieces, footing = whole_pieces(live), Footing()
        footing.moved(pieces)
        live["b"][0] = -0.0
        given = {**node, "tied": node["w"]}
        casting = Casting("nearest", "", {**given, "w": torch.ones(2, 3)})
        ready = stage_node(pieces, given, casting, lambda: None) if staged else given
        reports.append(install_node(pieces, ready, casting, footing).report())
        assert torch.equal(live["w"], node["w"].bfloat16())
        assert footing.moved(pieces) == []
    assert reports[0] == reports[1]
    assert (reports[0].changed_tensors, reports[0].overwritten) == (3, ("b",))


def test_a_network_that_changed_since_is_refused():
    own = {"w": torch.ones(2, 3)}
    staged = stage_node(whole_pieces(own), own, Casting(), lambda: None)
    with pytest.raises(InstallError, match="'w' of the network has changed since"):
        install_node(whole_pieces({"w": torch.ones(2, 4)}), staged, Casting(), Footing())


def endless(check_stop):
    while True:
        time.sleep(0.001)
        check_stop()


def test_work_that_is_not_wanted_any_more_ends():
    ahead = Ahead()
    ahead.begin(3, endless)
    assert len(threads()) == 1
    assert ahead.take(2) is None
    assert threads() == []
    ahead.begin(3, endless)
    ahead.begin(2, endless)
    assert [thread.name for thread in threads()] == ["disback: reading node 2"]
    del ahead
    assert threads() == []


def test_an_owner_that_is_collected_in_the_threads_own_thread_ends_it(monkeypatch):
    owner, known, wrong = [Ahead()], threading.Event(), []
    monkeypatch.setattr(sys, "unraisablehook", wrong.append)

    def work(check_stop):
        known.wait(5)
        owner.clear()  # as where the garbage of a cycle is collected just here
        endless(check_stop)

    owner[0].begin(3, work)
    task = owner[0]._task
    known.set()
    task.join()
    assert threads() == []
    assert wrong == []


def test_a_session_that_ends_leaves_no_thread(tmp_path):
    host = ToyHost()
    strategy = walk(host, make_path(tmp_path, host), prefetch=True)
    strategy.begin_step(0)
    strategy._ahead.begin(7, endless)
    strategy.close()
    assert threads() == []


PROGRAM = """
import time
from tests.real_score.test_ahead import Ahead, endless
ahead = Ahead()
ahead.begin(1, endless)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise KeyboardInterrupt", -2)])
def test_a_program_ends_while_a_node_is_read(end, code):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end)], timeout=60, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert "Fatal" not in done.stderr
