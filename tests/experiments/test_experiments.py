"""Every shipped config is valid and trains; every experiment folder says what it is."""

import importlib.util
from pathlib import Path

import pytest

from disback_plugin.cli import demo, main
from disback_plugin.lab.config.experiment import load_config, parse_config

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CONFIGS = sorted((EXPERIMENTS / "gaussians").glob("*.yaml")) + sorted(
    (EXPERIMENTS / "digits").glob("*.yaml")
)
SHORT = [
    *("teacher.training.num_steps=3", "teacher.training.batch_size=16"),
    *("teacher.num_sampling_steps=2", "distill.num_steps=16", "distill.batch_size=16"),
    *("distill.record_batch_size=4", "evaluation.every=16", "evaluation.num_samples=70"),
    *("disback.schedule={name: fixed, interval: 1}", "checkpoint.every=8"),
    "logging.progress=false",
]


def test_there_are_the_experiments_of_the_readme():
    assert [config.relative_to(EXPERIMENTS).as_posix() for config in CONFIGS] == [
        *("gaussians/broad.yaml", "gaussians/far.yaml", "gaussians/near.yaml"),
        *("digits/ddpm.yaml", "digits/edm.yaml"),
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_network_has_under_a_million_parameters(config):

    settings = load_config(config)
    problem = settings.problem.load()
    teacher = settings.teacher.make(problem)
    assert sum(value.numel() for value in teacher.parameters()) < 1_000_000


def test_the_demo_is_the_ddpm_experiment_with_fewer_steps():
    short = parse_config(demo.demo_settings(), "demo.yaml")
    full = load_config(EXPERIMENTS / "digits" / "ddpm.yaml")
    assert (short.teacher, short.student, short.disback) == (
        full.teacher,
        full.student,
        full.disback,
    )
    fewer = full.distill.model_copy(update={"num_steps": short.distill.num_steps})
    assert short.distill == fewer


def test_the_score_fields_point_the_right_way(tmp_path, capsys):
    out = tmp_path / "out"
    overrides = [text for text in SHORT if not text.startswith("teacher.training")]
    overrides += ["teacher.training.num_steps=300", "teacher.network.hidden=32"]
    config = str(EXPERIMENTS / "gaussians" / "near.yaml")
    command = ["run", config, *overrides, "--arm", "disback", "--out", str(out), "--jobs", "1"]
    assert main(command) == 0
    script = EXPERIMENTS / "gaussians" / "score_fields.py"
    spec = importlib.util.spec_from_file_location("score_fields", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    capsys.readouterr()
    assert module.draw(out, "disback", 0, 1.0).read_bytes().startswith(b"\x89PNG")
    lines = [line for line in capsys.readouterr().out.splitlines() if "  teacher " in line]
    shares = [int(line.split("%")[0].split()[-1]) for line in lines]
    assert len(shares) == 2  # two checkpoints
    assert min(shares) > 90


@pytest.mark.parametrize("folder", ["gaussians", "digits"])
def test_every_experiment_folder_has_a_readme_with_the_command(folder):
    text = (EXPERIMENTS / folder / "README.md").read_text()
    assert f"disback run experiments/{folder}/" in text
