"""What is released: wheel and sdist, built without a network, installed and used by a stranger."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import disback_plugin

tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
ROOT = Path(__file__).parents[1]
PACKAGES = ("disback_plugin", "dmd2_patches", "diff_instruct_patches", "swiftbrush_patches")
USER = '''
"""A user's script, in types as strict as mypy has them."""

from pathlib import Path

import torch
from torch import nn

import disback_plugin
from disback_plugin import DisBack, DisBackConfig, RecordConfig, Turn, list_adapters
from disback_plugin.adapter import Adapter, Roles


def train(teacher: nn.Module, fake: nn.Module, student: nn.Module, folder: Path) -> list[int]:
    record = RecordConfig(num_steps=2, at=(1, 2))
    config = DisBackConfig(path=folder, record=record)
    roles = dict(teacher=teacher, fake_score=fake, student=student)
    disback = DisBack.attach(roles=roles, config=config)
    nodes: list[int] = []
    for step in range(3):
        turn: Turn = disback.begin_step(step)
        nodes.append(turn.node)
        with disback.real_score() as network:
            network(torch.zeros(1, 2))
        disback.end_step(step)
    disback.close()
    return nodes


version: str = disback_plugin.__version__
names: list[str] = list_adapters()
kinds: tuple[type[Adapter], type[Roles]] = (Adapter, Roles)
'''
WRONG = "import disback_plugin\nversion: int = disback_plugin.__version__\n"


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; its whole output where it fails."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(folder: Path) -> list[str]:
    """The files of the source tree, new ones too, without those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (folder / name).is_file()]


def test_the_version_of_a_git_tree_names_its_commit() -> None:
    pytest.importorskip("setuptools_scm")
    if not (ROOT / ".git").exists():
        pytest.skip("no git tree")
    told = run(sys.executable, "-m", "setuptools_scm", cwd=ROOT).strip()
    described = run("git", "describe", "--always", "--dirty", cwd=ROOT).strip()
    commit = re.search(r"\+g([0-9a-f]{7,})", told)
    if commit is None:  # a release: the tag itself
        assert described == f"v{told}"
    else:
        assert run("git", "rev-parse", "HEAD", cwd=ROOT).startswith(commit[1])


def test_every_file_that_is_no_code_is_named_for_the_wheel() -> None:
    """Also where git, which would name them itself, is not there at the build."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = {file for glob in data["package-data"]["disback_plugin"] for file in globbed(glob)}
    package = ROOT / "disback_plugin"
    there = {file for file in package.rglob("*") if file.suffix not in (".py", ".pyc", "")}
    assert {file for file in there if file.suffix != ".md"} <= named
    assert package / "py.typed" in named


def globbed(pattern: str) -> list[Path]:
    return [*(ROOT / "disback_plugin").glob(pattern)]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist of the tree as it is, in a copy without git."""
    for module in ("build", "setuptools_scm", "twine", "check_wheel_contents"):
        pytest.importorskip(module)
    source = tmp_path_factory.mktemp("source")
    for name in tracked(ROOT):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    out = source / "out" / "dist"
    build = ("build", "--no-isolation", "--outdir", out)
    run(sys.executable, "-m", *build, cwd=source, PIP_NO_INDEX="1")
    return out


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment that has the wheel, and of ours the other packages."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    [site] = (folder / "lib").glob("python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    options = ("--no-index", "--find-links", dist, "--no-deps", "--ignore-installed")
    run(*pip, "install", *options, "disback_plugin[train,dmd2]", cwd=folder)
    own = [Path(line) for line in sys.path if line.endswith("site-packages")]
    (site / "others.pth").write_text("".join(f"{line}\n" for line in own))  # after the wheel's
    return python


@pytest.mark.thorough
def test_wheel_and_sdist_are_well_formed_and_hold_everything(dist: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist)
    [wheel] = dist.glob("*.whl")
    [sdist] = dist.glob("*.tar.gz")
    settings = ROOT / "pyproject.toml"
    checker = (sys.executable, "-m", "check_wheel_contents", "--config", settings)
    run(*checker, wheel, cwd=dist)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith("METADATA")]
        told = Parser().parsestr(archive.read(metadata).decode())
    due = {name for name in tracked(ROOT) if name.startswith(PACKAGES)}
    missing = {name for name in due - set(names) if not name.endswith(".md")}
    assert missing == set()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert told["Version"] == "0.1.0.dev0"  # no git there
    assert set(told.get_all("Provides-Extra")) >= {"train", "dmd2", "wandb", "tensorboard"}
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked(ROOT)) - held == set()


@pytest.mark.thorough
def test_the_wheel_is_used_where_no_source_tree_is(installed: Path, tmp_path: Path) -> None:
    where = "import disback_plugin as d; print(d.__file__, d.__version__)"
    file, version = run(installed, "-c", where, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.parents[1])
    assert version == "0.1.0.dev0"
    disback = installed.with_name("disback")
    assert run(disback, "--version", cwd=tmp_path).strip() == version
    assert "usage: disback" in run(disback, "--help", cwd=tmp_path)
    experiment = ROOT / "experiments" / "gaussians" / "near.yaml"
    settings = (
        *("teacher.training.num_steps=2", "distill.num_steps=12", "evaluation.num_samples=20"),
        *("evaluation.every=12", "checkpoint.every=12", "--arm", "fixed", "--out", "out"),
    )
    run(disback, "run", experiment, *settings, cwd=tmp_path)
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    versions = (tmp_path / "out" / "experiment.json").read_text()
    assert f'"disback_plugin": "{version}"' in versions
    (tmp_path / "no-checkout").mkdir()
    with pytest.raises(AssertionError, match="is no checkout of DMD2"):  # its patches are there
        run(disback, "dmd2", "status", "no-checkout", cwd=tmp_path)


@pytest.mark.thorough
def test_a_users_script_is_checked_by_mypy_in_strict_mode(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = (sys.executable, "-m", "mypy", "--strict", "--python-executable", installed)
    run(*command, "--cache-dir", tmp_path / "cache", "user.py", cwd=tmp_path)
    with pytest.raises(AssertionError, match="Incompatible types in assignment"):
        run(*command, "--cache-dir", tmp_path / "cache", "wrong.py", cwd=tmp_path)


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert disback_plugin.__version__ == version("disback_plugin")
