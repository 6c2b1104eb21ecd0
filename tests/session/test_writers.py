"""One writer a path: a second run is refused, what another wrote is never replaced."""

import subprocess
import sys
import textwrap

import pytest

from disback_plugin import DegradationPath
from disback_plugin.errors import PathError, SessionError
from disback_plugin.path.writer_lock import WriterLock
from tests.session.common import attach, settings
from tests.toy import ToyHost

HOLD = """
    import sys, pathlib
    from disback_plugin.path.writer_lock import WriterLock
    lock = WriterLock(pathlib.Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_that_records_is_waited_for(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path / "path")]
    other = subprocess.Popen(command, stdin=-1, stdout=-1)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(PathError, match="is being written by another run or command"):
        attach(ToyHost(), settings(tmp_path)).begin_step(0)
    other.kill()
    other.communicate()
    host = ToyHost()  # the lock has gone with it, and what it left blocks nothing
    host.run(attach(host, settings(tmp_path)), range(6))
    assert not (tmp_path / "path" / ".lock").exists()


def test_within_a_process_the_newer_session_goes_on_and_the_older_is_told(tmp_path):
    host, again = ToyHost(), ToyHost()
    older = attach(host, settings(tmp_path))
    host.run(older, range(2))
    newer = attach(again, settings(tmp_path))
    newer.load_state_dict(older.state_dict())
    with pytest.raises(PathError, match="another session of this process records into"):
        host.run(older, range(2, 5))
    again.fake_score.load_state_dict(host.fake_score.state_dict())
    again.run(newer, range(2, 6))
    assert len(DegradationPath.open(tmp_path / "path")) == 4


def test_what_another_run_has_written_is_not_replaced(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(2))
    disback.state_dict()  # waits for node 2
    DegradationPath.open(tmp_path / "path").truncate(1)  # by somebody who asks for no lock
    with pytest.raises(PathError, match=r"another run or command has written into"):
        host.run(disback, range(2, 5))
        disback.state_dict()  # should the node still be on its way
    assert len(DegradationPath.open(tmp_path / "path")) == 1


def test_a_path_without_a_node_gives_way(tmp_path):
    host = ToyHost()
    first = attach(host, settings(tmp_path))
    first.begin_step(0)
    first.end_step(0)
    with pytest.raises(PathError, match="equals the teacher"):
        first.close()
    (tmp_path / "path" / ".tmpAbc123").touch()
    host.run(attach(host, settings(tmp_path)), range(6))
    path = DegradationPath.open(tmp_path / "path")
    assert ([entry.step for entry in path], path.verify()) == ([1, 2, 4, 6], [])
    assert len(list(path.folder.iterdir())) == 6


def test_a_checkpoint_of_another_recording_is_refused(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(7))
    state = disback.state_dict()
    path = DegradationPath.open(tmp_path / "path", disback.path.read(0))
    nodes = [(entry.step, path.read(entry.index)) for entry in path]
    path.truncate(0)
    for step, tensors in nodes:
        path.append({k: v + 1 if v.is_floating_point() else v for k, v in tensors.items()}, step)
    path.finish()
    with pytest.raises(SessionError, match="does not hold the nodes that the checkpoint"):
        attach(ToyHost(), settings(tmp_path)).load_state_dict(state)
    del state["path"]  # of an earlier version
    attach(ToyHost(), settings(tmp_path)).load_state_dict(state)


def test_a_lock_whose_holder_is_gone_is_free(tmp_path):
    WriterLock(tmp_path)
    WriterLock(tmp_path, take_over=False).release()
