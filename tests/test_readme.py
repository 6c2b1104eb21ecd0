"""The README's code runs as written there, and its links and commands exist."""

import re
import shlex
from pathlib import Path

import torch
import yaml

from disback_plugin.cli.main import make_parser
from tests.hosts.toy import ToyHost, same, tensors_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
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
    assert updates == list(range(10, 240))
    assert [entry.step for entry in names["disback"].path] == [1, 2, 4, 7, 10]
    assert names["turn"].stage == "teacher"
    assert same(tensors_of(host.teacher), original)
    assert torch.isfinite(host.student(host.noise(0))).all()


def test_the_integration_takes_four_lines():
    (code,) = [block for block in blocks("python") if "begin_step" in block]
    assert re.findall(r"# (\d)", code) == ["1", "2", "3", "4"]


def test_every_config_shown_is_valid():
    from disback_plugin.trainer import parse_config

    shown = blocks("yaml")
    assert shown
    for block in shown:
        config = parse_config(yaml.safe_load(block), "README.md")
        assert parse_config(config.model_dump(mode="json"), "again") == config


def test_every_link_leads_somewhere():
    targets = re.findall(r"\]\((?!http|#)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_command_shown_parses(capsys):
    shown = [line for block in blocks("") for line in block.splitlines()]
    commands = [re.split(r"\s{2,}|#", line)[0] for line in shown if line.startswith("disback ")]
    assert len(commands) >= 5
    for command in commands:
        for action in ("show", "verify", "repair") if "|" in command else ("",):
            words = shlex.split(command.replace("show|verify|repair", action))
            make_parser().parse_args(words[1:])
            for word in words:
                if word.endswith(".yaml"):
                    assert (ROOT / word).is_file(), word
