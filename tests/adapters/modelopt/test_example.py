"""examples/modelopt_dmd as shipped: it distils, exports, and goes on after a kill, bit for bit."""

import multiprocessing
import os
import re
import runpy
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from disback_plugin import DegradationPath, DisBack

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "examples" / "modelopt_dmd" / "train.py"
EXPORTED = "student/diffusion_pytorch_model.safetensors"
NUM_STEPS, SAVE_EVERY, KILLED_AT = 16, 6, 11


def run(out: Path, kill: int | None = None) -> None:
    """The script as a command, in a fork: this process has imported the libraries."""
    torch.set_num_threads(1)
    begin_step = DisBack.begin_step

    def or_die(self: DisBack, step: int):
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return begin_step(self, step)

    DisBack.begin_step = or_die  # type: ignore[method-assign]
    sys.path.insert(0, str(SCRIPT.parent))  # as Python does for a script
    settings = {"out": out, "teacher-steps": 3, "steps": NUM_STEPS, "save-every": SAVE_EVERY}
    sys.argv = [str(SCRIPT), *(f"--{name}={value}" for name, value in settings.items())]
    runpy.run_path(str(SCRIPT), run_name="__main__")


def exit_code(out: Path, kill: int | None = None) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=run, args=(out, kill))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.slow
def test_a_killed_run_goes_on_and_exports_the_same_student(tmp_path: Path) -> None:
    for name in ("modelopt.torch.fastgen", "diffusers", "sklearn.datasets"):
        pytest.importorskip(name)
    assert exit_code(tmp_path / "whole") == 0
    assert exit_code(tmp_path / "killed", KILLED_AT) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "student").exists()
    state = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert state["step"] == SAVE_EVERY  # while recording: the average has not begun
    assert exit_code(tmp_path / "killed") == 0
    one, other = (load_file(tmp_path / name / EXPORTED) for name in ("whole", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    teacher = load_file(tmp_path / "whole" / EXPORTED.replace("student", "teacher"))
    assert any(not torch.equal(one[name], teacher[name]) for name in one)
    path = DegradationPath.open(tmp_path / "killed" / "path")
    assert [entry.step for entry in path] == [1, 2, 4, 8]


def test_the_script_is_short_and_its_lines_of_ours_are_few() -> None:
    lines = SCRIPT.read_text().splitlines()
    assert len(lines) < 120
    assert sum("# DisBack" in line for line in lines) == 7


def test_the_docs_show_the_command_and_what_it_prints() -> None:
    text = (ROOT / "docs" / "hosts.md").read_text()
    assert "python examples/modelopt_dmd/train.py" in text
    assert re.search(r"step 300: node 0, distance [\d.]+\nthe averaged student: [\d.]+\n", text)
