"""A node is written behind the host's steps: bit for bit, one at a time, and no error is lost."""

import copy
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from disback_plugin import DegradationPath
from disback_plugin.errors import PathError
from disback_plugin.path import encoding
from disback_plugin.path.behind import Behind, GivenUpError
from tests.session.common import attach, settings
from tests.toy import ToyHost, same, same_roles, tensors_of


@pytest.fixture
def gate(monkeypatch):
    """Holds every node back, before its first tensor, while it is not set."""
    gate, real = threading.Event(), encoding.file_order

    def wait_first(node):
        gate.wait(20)
        return real(node)

    monkeypatch.setattr(encoding, "file_order", wait_first)
    yield gate
    gate.set()


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("disback")]


def test_the_host_trains_on_and_the_node_is_what_the_fake_score_was(tmp_path, gate):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(1))
    then, folder = tensors_of(host.fake_score), tmp_path / "path"
    disback.begin_step(1)
    host.train_step(1, update_student=False)
    assert not list(folder.glob("node_*"))
    gate.set()
    path = disback.path
    assert [entry.step for entry in path] == [1]
    assert same(path.read(1), then)
    assert not same(then, tensors_of(host.fake_score))
    assert our_threads() == []


@pytest.mark.parametrize("asks", ["state", "path", "open", "entry", "close"])
def test_who_looks_at_the_path_waits_for_the_node(tmp_path, gate, asks):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    disback.begin_step(0)
    host.train_step(0, update_student=False)
    entry = disback.end_step(0)
    assert (entry.index, entry.step) == (1, 1)
    threading.Timer(0.1, gate.set).start()
    look = {
        "state": lambda: disback.state_dict()["path"][0],
        "path": lambda: len(disback.path),
        "open": lambda: len(DegradationPath.open(tmp_path / "path")),
        "entry": lambda: round(entry.distance / entry.distance),
        "close": lambda: disback.close() or 1,
    }[asks]
    assert look() == 1
    assert gate.is_set()
    assert (tmp_path / "path" / "node_0001.safetensors").exists()


def test_the_second_node_waits_for_the_first(tmp_path, gate):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(1))
    threading.Timer(0.1, gate.set).start()
    host.run(disback, range(1, 2))
    assert gate.is_set()
    assert (tmp_path / "path" / "node_0001.safetensors").exists()


def fail(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoding, "file_order", full)


@pytest.mark.parametrize("call", ["begin_step", "end_step", "state_dict", "close", "path"])
def test_what_goes_wrong_behind_is_raised_by_the_next_call(tmp_path, monkeypatch, caplog, call):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    disback.begin_step(0)
    host.train_step(0, update_student=False)
    fail(monkeypatch)
    disback.end_step(0)
    _wait_for_no_thread()
    asked = {"begin_step": (1,), "end_step": (0,)}.get(call, ())
    with pytest.raises(OSError, match="No space left.*node_0001"):
        disback.path if call == "path" else getattr(disback, call)(*asked)
    assert "writing node 1" in caplog.text
    assert sorted(file.name for file in (tmp_path / "path").iterdir()) == [
        *("path.json", "teacher.safetensors")
    ]


def test_the_hosts_networks_are_not_looked_at_behind_its_steps(tmp_path, monkeypatch):
    host, asked = ToyHost(), []
    disback = attach(host, settings(tmp_path))
    disback.begin_step(0)
    real = disback.installation.overwritten

    def overwritten():
        asked.append(threading.current_thread() is threading.main_thread())
        return real()

    monkeypatch.setattr(disback.installation, "overwritten", overwritten)
    disback.end_step(0)  # nothing was trained: the node is refused
    _wait_for_no_thread()
    assert asked == []
    with pytest.raises(PathError, match="node_0001.safetensors equals the teacher"):
        disback.begin_step(1)
    assert asked == [True]


def test_a_run_that_failed_behind_goes_on_from_its_checkpoint_bit_for_bit(tmp_path, monkeypatch):
    whole, host = ToyHost(), ToyHost()
    whole.run(attach(whole, settings(tmp_path / "whole")), range(15))
    disback = attach(host, settings(tmp_path / "cut"))
    host.run(disback, range(1))
    held, state = copy.deepcopy(host), json.loads(json.dumps(disback.state_dict()))
    with monkeypatch.context() as patched:
        fail(patched)
        host.run(disback, range(1, 2))
        with pytest.raises(OSError, match="No space left"):
            disback.close()
    again = ToyHost()
    resumed = attach(again, settings(tmp_path / "cut"))
    again.load(held)
    resumed.load_state_dict(state)
    again.run(resumed, range(1, 15))
    assert same_roles(whole, again)
    first, second = (DegradationPath.open(tmp_path / name / "path") for name in ("whole", "cut"))
    assert [entry.sha256 for entry in first] == [entry.sha256 for entry in second]


def test_work_behind_ends_where_it_is_asked_to_and_its_error_is_told_once():
    behind, began = Behind(), threading.Event()

    def work(check_stop):
        began.set()
        while True:
            check_stop()
            time.sleep(0.001)

    behind.start(work, "endless")
    began.wait(5)
    behind._task.give_up()
    behind.wait()
    behind.start(lambda check_stop: 1 / 0, "impossible")
    with pytest.raises(ZeroDivisionError):
        behind.wait()
    behind.wait()
    assert issubclass(GivenUpError, Exception)


def _wait_for_no_thread():
    end = time.monotonic() + 10
    while our_threads() and time.monotonic() < end:
        time.sleep(0.01)


# a host that saves a checkpoint after its first step, then is interrupted while node 2 is written
HOST = """
    import json, sys, time
    from pathlib import Path
    import torch
    from disback_plugin.path import encoding
    from tests.session.common import attach, settings
    from tests.toy import ToyHost

    folder, host = Path(sys.argv[1]), ToyHost()
    disback = attach(host, settings(folder))
    host.run(disback, range(1))
    held = {name: role.state_dict() for name, role in host.roles.items()}
    held["fake"], held["student_opt"] = (
        host.fake_optimizer.state_dict(), host.student_optimizer.state_dict()
    )
    torch.save(held | {"state": disback.state_dict()}, folder / "host.pt")
    real = encoding.Figures.add

    def slow(self, *tensors):
        print("writing", flush=True)
        time.sleep(0.5)
        real(self, *tensors)

    encoding.Figures.add = slow
    host.run(disback, range(1, 2))
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_while_a_node_is_written_records_it_again(tmp_path, number):
    import torch

    whole = ToyHost()
    whole.run(attach(whole, settings(tmp_path / "whole")), range(15))
    folder = tmp_path / "cut"
    folder.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(HOST), str(folder)]
    process = subprocess.Popen(command, stdout=-1, stderr=-1, cwd=Path(__file__).parents[2])
    assert process.stdout.readline() == b"writing\n"
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=30)
    left = sorted(file.name for file in (folder / "path").iterdir() if file.name[0] != ".")
    assert left == ["node_0001.safetensors", "path.json", "teacher.safetensors"]
    if number == signal.SIGINT:
        assert b"writing node 2" in said
        assert b"was given up: the program ends" in said
        assert not list((folder / "path").glob(".tmp*"))

    saved, again = torch.load(folder / "host.pt", weights_only=False), ToyHost()
    resumed = attach(again, settings(folder))
    for name, role in again.roles.items():
        role.load_state_dict(saved[name])
    again.fake_optimizer.load_state_dict(saved["fake"])
    again.student_optimizer.load_state_dict(saved["student_opt"])
    resumed.load_state_dict(saved["state"])
    again.run(resumed, range(1, 15))
    assert same_roles(whole, again)
    first, second = (DegradationPath.open(root / "path") for root in (tmp_path / "whole", folder))
    assert [entry.sha256 for entry in first] == [entry.sha256 for entry in second]
    assert second.verify() == []
