"""`disback status`: a run under way, one that has died, one that was stopped, one that is done."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from disback_plugin.cli import main
from disback_plugin.lab.results.under_way import duration
from disback_plugin.lab.results.writer import LOCK, forget_writer, tell_writer, writer_of
from disback_plugin.sealed import write_sealed
from tests.cli.conftest import TINY, Start

RUN = {
    "experiment": "tiny",
    "arm": "disback",
    "seed": 0,
    "num_steps": 400,
    "primary": "fd",
    "thresholds": [],
    "status": "running",
}
HOLDER = """
import sys, time
from pathlib import Path
from disback_plugin.lab.results.writer import tell_writer
tell_writer(Path(sys.argv[1]))
print("told", flush=True)
time.sleep(60)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An experiment with a run whose last lines are those of step 200, 8 steps a second."""
    out = tmp_path / "out"
    run = out / "runs" / "disback-seed0"
    (run / "checkpoints" / "step_000150").mkdir(parents=True)
    write_sealed(run / "run.json", RUN)
    (out / "config.yaml").write_text(yaml.safe_dump(TINY))
    common = {"stage": "backtrack", "node": 3, "student_loss": None, "fake_loss": 0.5}
    lines = [
        {"kind": "train", "step": step, "seconds": step / 8, **common} for step in range(0, 201, 10)
    ]
    lines.insert(15, {"kind": "eval", "step": 140, "seconds": 17.5, "metrics": {"fd": 1.25}})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text + '{"kind": "train", "step": 21')  # being written
    return out


@pytest.fixture
def holder(out: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that says that it writes the run."""
    command = [sys.executable, "-c", HOLDER, str(out / "runs" / "disback-seed0")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        yield process
        process.kill()


def test_a_run_under_way_then_killed(
    out: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert main(["status", str(out)]) == 0
    name, progress, losses, evaluation = capsys.readouterr().out.splitlines()
    assert name == "disback-seed0: running, step 200 of 400 (50%)"
    start = "  stage backtrack, node 3, 8 steps/s, 256 images/s, 0:00:25 left, last line 0:00:"
    assert progress.startswith(start)
    assert losses == "  step 200: fake_loss 0.5"
    assert evaluation == "  evaluation of step 140: fd 1.25"
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert main(["status", str(out / "runs" / "disback-seed0")]) == 1
    name, progress, *_ = capsys.readouterr().out.splitlines()
    died = "disback-seed0: died at step 200 of 400 (50%); --resume goes on from step 150"
    assert name == died
    assert " left" not in progress


def test_status_imports_nothing_heavy(start: Start, out: Path) -> None:
    assert start("status", str(out)) == (0, set())


def test_a_run_that_was_stopped_and_one_that_is_complete(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = out / "runs" / "disback-seed0"
    tell_writer(run)
    forget_writer(run)
    assert main(["status", str(out)]) == 0
    assert "disback-seed0: stopped at step 200 of 400 (50%); " in capsys.readouterr().out
    write_sealed(run / "run.json", {**RUN, "status": "complete"})
    assert main(["status", str(out)]) == 0
    told = "disback-seed0: complete, 400 steps\n  evaluation of step 140: fd 1.25\n"
    assert capsys.readouterr().out == told


def test_a_number_that_another_process_has_now_is_no_sign_of_life(tmp_path: Path) -> None:
    tell_writer(tmp_path)
    assert writer_of(tmp_path) == "alive"
    said = json.loads((tmp_path / LOCK).read_text())
    assert said["process"] == os.getpid()
    for change, expected in (
        ({"started": "another boot 1"}, "dead" if sys.platform == "linux" else "alive"),
        ({"process": 2**22 + 1}, "dead"),
        ({"machine": "another"}, "elsewhere"),
    ):
        (tmp_path / LOCK).write_text(json.dumps({**said, **change}))
        assert writer_of(tmp_path) == expected
    for nothing in ("", "[]", '{"process": null}'):
        (tmp_path / LOCK).write_text(nothing)
        assert writer_of(tmp_path) == "none"


def test_the_trainer_says_that_it_writes_and_forgets_it(tmp_path: Path) -> None:
    from disback_plugin.lab.trainer.run_folder import lock, locked

    with locked(tmp_path / "run"):
        assert writer_of(tmp_path / "run") == "alive"
    assert writer_of(tmp_path / "run") == "none"
    with pytest.raises(ValueError, match="bad"), locked(tmp_path / "run"):
        raise ValueError("bad")
    assert writer_of(tmp_path / "run") == "none"
    with lock(tmp_path / "run"):
        assert writer_of(tmp_path / "run") == "none"


def test_only_the_end_of_a_long_log_is_read(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = out / "runs" / "disback-seed0" / "metrics.jsonl"
    line = json.dumps({"kind": "train", "step": 390, "seconds": 9}) + "\n"
    with file.open("ab") as stream:
        stream.truncate(1 << 40)  # a hole: a terabyte that nobody could read in the test's time
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + line.encode())
    assert main(["status", str(out)]) == 0
    assert "stopped at step 390 of 400" in capsys.readouterr().out


def test_a_folder_without_a_run_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "no run in" in capsys.readouterr().err


def test_a_duration() -> None:
    assert [duration(s) for s in (4.6, 125, 97200)] == ["0:00:05", "0:02:05", "1 day, 3:00:00"]


def test_a_run_that_cannot_be_read_hides_no_other(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = out / "runs" / "fixed-seed0"
    other.mkdir()
    (other / "run.json").write_text('{"arm": "fixed"')
    assert main(["status", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "disback-seed0: stopped at step 200" in shown
    assert f"fixed-seed0: unreadable\n  {other / 'run.json'} is damaged" in shown
    assert main(["status", str(other)]) == 2


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "train", "step": 210, "seconds": 30, "fake_loss": "low"}',
        '{"kind": "eval", "step": 210, "seconds": 30, "metrics": ["fd"]}',
        '{"kind": "eval", "step": 210, "seconds": 30, "metrics": {"fd": "low"}}',
        '{"kind": "train", "step": "210", "seconds": 30}',
        '{"kind": "train", "step": 210, "seconds": 1' + "0" * 400 + "}",
        '{"kind": "train", "step": 210, "seconds": null}',
        "[" * 100_000,
    ],
)
def test_a_damaged_line_is_passed_over(
    line: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = out / "runs" / "disback-seed0" / "metrics.jsonl"
    with file.open("a") as stream:
        stream.write(f"\n{line}\n")
    assert main(["status", str(out)]) == 0
    assert "stopped at step 200 of 400" in capsys.readouterr().out


@pytest.mark.parametrize("settings", ["teacher: null\ndistill: [1]\n", "3\n"])
def test_settings_of_another_form_tell_nothing(
    settings: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "config.yaml").write_text(settings)
    (out / "teacher").mkdir()
    (out / "teacher" / "metrics.jsonl").touch()
    assert main(["status", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "teacher: stopped at step 0 of 0; " in shown
    assert "images/s" not in shown


def test_names_that_would_speak_to_the_terminal_are_refused(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sealed(out / "runs" / "disback-seed0" / "run.json", {**RUN, "arm": "a\x1b[2Jb"})
    assert main(["status", str(out)]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_metric_whose_name_would_speak_to_the_terminal_is_made_visible(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"kind": "eval", "step": 210, "seconds": 26.0, "metrics": {"f\x1b[2Jd": 1.5}}
    file = out / "runs" / "disback-seed0" / "metrics.jsonl"
    with file.open("a") as stream:
        stream.write(f"\n{json.dumps(line)}\n")
    assert main(["status", str(out)]) == 0
    assert "evaluation of step 210: f\\x1b[2Jd 1.5\n" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(out: Path) -> None:
    command = [sys.executable, "-m", "disback_plugin", "status", str(out)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
