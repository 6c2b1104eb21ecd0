"""The README's code runs as written there; its links and commands, and those of docs/, exist."""

import copy
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.cli.main import make_parser
from disback_plugin.diffusion import EDMDenoiser
from disback_plugin.lab.networks import ResidualMLP
from tests.toy import ToyHost, same, tensors_of

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "disback_plugin" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def blocks(language, page=PAGES[0]):
    text = page.read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_four_lines_bring_disback_to_a_loop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    host, updates = ToyHost(), []
    original = tensors_of(host.teacher)

    def update_student(step):
        updates.append(step)
        gap = host.fake_score(sample := host.student(host.noise(step))) - host.teacher(sample)
        host.student_optimizer.zero_grad()
        (sample * gap.detach()).sum().backward()
        host.student_optimizer.step()

    names = {
        **host.roles,
        "num_steps": 240,
        "update_student": update_student,
        "update_fake_score": lambda step: host.train_step(step, update_student=False),
    }
    (code,) = [block for block in blocks("python") if "begin_step" in block]
    exec(compile(code, "README.md", "exec"), names)
    assert updates == list(range(8, 240))
    assert [entry.step for entry in names["disback"].path] == [1, 2, 4, 8]
    assert names["turn"].stage == "teacher"
    assert same(tensors_of(host.teacher), original)
    assert torch.isfinite(host.student(host.noise(0))).all()


def test_the_measure_of_the_docs_decides(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (code,) = [
        block
        for block in blocks("python", ROOT / "docs" / "writing-an-adapter.md")
        if "measure" in block
    ]
    torch.manual_seed(0)
    teacher = EDMDenoiser(ResidualMLP((2,), 8, 1, zero_output=False)).requires_grad_(False)
    fake_score = copy.deepcopy(teacher).requires_grad_(True)
    student = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(student.bias, 9.0)  # far from what this teacher can know
    roles = {"teacher": teacher, "fake_score": fake_score, "student": student}
    fake_optimizer = torch.optim.Adam(fake_score.parameters(), lr=5e-2)
    names = {
        **{"DisBack": DisBack, "DisBackConfig": DisBackConfig, "torch": torch, "roles": roles},
        **{"student": student, "z": torch.randn(32, 2), "eps": torch.randn(32, 2)},
        "sigma": torch.full((32,), 0.5),
    }
    exec(compile(code, "writing-an-adapter.md", "exec"), names)
    disback, stages = names["disback"], []
    for step in range(4):
        stages.append(disback.begin_step(step).stage)
        fake_optimizer.zero_grad()
        x0 = student(torch.randn(32, 2)).detach()
        (
            fake_score(x0 + 0.5 * torch.randn_like(x0), torch.full((32,), 0.5)) - x0
        ).square().mean().backward()
        fake_optimizer.step()
        disback.end_step(step)
    # far from the origin, an untrained teacher pulls all samples towards it
    assert stages == ["teacher"] * 4
    assert "pulls the student's samples all alike" in caplog.text


def test_the_integration_takes_four_lines():
    (code,) = [block for block in blocks("python") if "begin_step" in block]
    assert re.findall(r"# (\d)", code) == ["1", "2", "3", "4"]


def test_every_config_shown_is_valid():
    from disback_plugin.lab.config.experiment import parse_config

    shown = [block for page in PAGES for block in blocks("yaml", page)]
    assert shown
    for block in shown:
        config = parse_config(yaml.safe_load(block), "docs")
        assert parse_config(config.model_dump(mode="json"), "again") == config


@pages
def test_every_link_leads_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    link, reference = (
        r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)",
        r"^\[[^]]+\]: (?!http)([^#\s]*)(?:#(\S*))?$",
    )
    assert set(re.findall(r"\]\[([^]]+)\]", text)) <= set(re.findall(r"^\[([^]]+)\]: ", text, re.M))
    for target, anchor in [*re.findall(link, text), *re.findall(reference, text, re.MULTILINE)]:
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, f"{target}#{anchor}"


@pages
def test_every_command_shown_parses(page, capsys):
    shown = [line for block in blocks("", page) for line in block.splitlines()]
    commands = [re.split(r"\s{2,}|#", line)[0] for line in shown if line.startswith("disback ")]
    for command in commands:
        for action in ("show", "verify", "repair") if "|" in command else ("",):
            words = shlex.split(command.replace("show|verify|repair", action))
            make_parser().parse_args(words[1:])
            for word in words:
                if word.endswith(".yaml"):
                    assert (ROOT / word).is_file(), word


def test_every_command_is_in_the_docs():
    shown = {
        line.split()[1]
        for block in blocks("", ROOT / "docs" / "commands.md")
        for line in block.splitlines()
        if line[:8] == "disback "
    }
    (commands,) = [a for a in make_parser()._actions if hasattr(a, "choices") and a.choices]
    assert set(commands.choices) == shown


def test_the_readme_is_read_in_five_minutes():
    assert len(PAGES[0].read_text().splitlines()) <= 150


@pytest.mark.thorough
def test_the_site_is_built_strictly_and_loads_nothing_from_a_network(tmp_path):
    """A link that leads nowhere is an error; the README and what pages link to are in it."""
    pytest.importorskip("mkdocs")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, timeout=240)
    pages = [page.read_text() for page in tmp_path.rglob("*.html")]
    assert "Degradation recording" in (tmp_path / "api.html").read_text()
    assert (tmp_path / "source" / "experiments" / "RESULTS.html").is_file()
    loaded = re.compile(
        r"""<(?:script|img|iframe)[^>]*src="https?:|<link[^>]*stylesheet[^>]*https?:"""
    )
    assert not [page for page in pages if loaded.search(page.replace("https://img.shields.io", ""))]
