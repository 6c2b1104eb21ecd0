"""The example adapter: small, installable, found by its entry point, and it keeps the contract."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "my_adapter"
GUIDE = (ROOT / "docs" / "writing-an-adapter.md").read_text()


def run(*command: str, **more: str) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"} | more
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_keeps_the_contract():
    pytest_command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"]
    printed = run(*pytest_command, str(EXAMPLE))
    assert "8 passed" in printed


@pytest.mark.slow
def test_the_example_installs_and_its_adapter_is_listed_with_its_package(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "my_adapter.py"):
        (source / name).write_bytes((EXAMPLE / name).read_bytes())
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--target", str(target), str(source))
    listed = run(sys.executable, "-m", "disback_plugin", "adapters", PYTHONPATH=str(target))
    block = "my-method  (my-adapter 0.1.0)  MyTrainer\n    teacher     trainer.pretrained\n"
    assert block in listed
    assert "generic  (built in)  your own loop" in listed


def test_the_package_is_under_60_lines():
    files = [EXAMPLE / "pyproject.toml", EXAMPLE / "my_adapter.py"]
    assert sum(len(file.read_text().splitlines()) for file in files) < 60


def test_the_guide_shows_the_example_as_it_is():
    shown = re.search(r"```python\n(class MyAdapter.*?)\n```", GUIDE, re.DOTALL)
    assert shown is not None
    source = (EXAMPLE / "my_adapter.py").read_text()
    for line in shown[1].splitlines():
        assert line.strip() in ("", "...") or line in source, line
    entry = re.search(r"```toml\n(.*?)\n```", GUIDE, re.DOTALL)
    assert entry is not None
    assert entry[1] in (EXAMPLE / "pyproject.toml").read_text()


def test_the_guide_names_every_check():
    from disback_plugin.testing import CHECKS

    assert re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE) == list(CHECKS)
