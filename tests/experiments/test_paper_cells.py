"""The configs of the paper's cells: its settings as a table, commands that parse, smoke runs."""

import re
import shlex
from pathlib import Path

import pytest

from disback_plugin.cli import main
from disback_plugin.cli.main import make_parser
from disback_plugin.lab.config.experiment import ExperimentConfig, load_config
from disback_plugin.lab.smoke import run as smoke_run
from disback_plugin.lab.smoke.run import smoke
from disback_plugin.lab.smoke.settings import MOST_NODES
from disback_plugin.lab.trainer import network

pytestmark = pytest.mark.usefixtures("fresh_accelerate")  # configs differ in precision

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
NAMES = [
    file.relative_to(EXPERIMENTS).with_suffix("").as_posix()
    for file in sorted(EXPERIMENTS.rglob("*.yaml"))
]
FAMILIES = [
    *("edm/ffhq64", "cd/ffhq64", "sdxl/one_step", "lcm_lora/lcm_lora"),
    *("cifar10/ddim", "cifar16/edm", "digits/edm", "gaussians/near"),
]
# steps, batch, recording steps, nodes, steps of the walk, where the student is asked
EDM = (500_000, 32, 200, 4, 12_000)
CD = (10_000, 2, 200, 4, 2_000, 80.0)
B2 = {
    **{f"edm/{data}": (*EDM, 1.0) for data in ("ffhq64", "afhqv2", "imagenet64", "cifar10")},
    **{
        f"edm/{data}-sigma80": (*EDM, 80.0)
        for data in ("ffhq64", "afhqv2", "imagenet64", "cifar10")
    },
    **{f"cd/{data}": CD for data in ("ffhq64", "afhqv2", "imagenet64", "lsun-bedroom", "lsun-cat")},
    # a step is five of DMD2's iterations: 50,000, of which 1,000 record, and 1,000 a node
    "sdxl/one_step": (10_000, 1, 200, 10, 9 * 200, 399),
}


def config_of(name: str) -> ExperimentConfig:
    return load_config(EXPERIMENTS / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_config_is_valid_and_named_after_its_file(name: str) -> None:
    assert config_of(name).name == name.replace("/", "-")


@pytest.mark.parametrize("name", B2)
def test_the_settings_are_those_of_the_paper(name: str) -> None:
    config = config_of(name)
    record, distill, student = config.disback.record, config.distill, config.student
    num_nodes = len(record.node_steps)
    assert B2[name] == (
        *(distill.num_steps, distill.batch_size, record.num_steps, num_nodes),
        config.disback.schedule.num_steps(num_nodes),
        student.sigma or student.timestep,
    )
    assert distill.student_optimizer == ("sgd" if name.startswith("cd/") else "adamw")
    assert config.teacher.training is None


def test_no_cell_of_the_tables_lacks_its_config() -> None:
    assert set(B2) | {"lcm_lora/lcm_lora", "cifar10/ddim"} <= set(NAMES)
    assert {name.partition("/")[0] for name in NAMES} == {
        name.partition("/")[0] for name in FAMILIES
    }


@pytest.mark.parametrize("name", [*B2, "sdxl/one_gpu", "lcm_lora/lcm_lora", "cifar10/ddim"])
def test_the_readme_beside_a_config_names_it(name: str) -> None:
    folder, stem = name.split("/")
    text = (EXPERIMENTS / folder / "README.md").read_text()
    assert f"{stem}.yaml" in text.replace("*-sigma80.yaml", f"{stem}.yaml")
    assert f"disback run experiments/{folder}/" in text
    assert "--smoke" in text


@pytest.mark.parametrize("folder", ["edm", "cd", "sdxl", "lcm_lora", "cifar10"])
def test_every_command_of_a_readme_parses(folder: str) -> None:
    text = (EXPERIMENTS / folder / "README.md").read_text()
    (known,) = [a for a in make_parser()._actions if hasattr(a, "choices") and a.choices]
    shown = re.findall(
        r"^(?:disback|torchrun .* -m disback_plugin) (.*?)(?:\s+#.*)?$", text, re.MULTILINE
    )
    commands = [line for line in map(shlex.split, shown) if line[0] in known.choices]
    assert commands
    for words in commands:
        make_parser().parse_known_args(words)  # key=value may follow options
        assert all((ROOT / word).is_file() for word in words if word.endswith(".yaml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FAMILIES else pytest.mark.thorough) for name in NAMES],
)
def test_a_shipped_config_runs_in_small(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(EXPERIMENTS / f"{name}.yaml"), "--smoke"]) == 0
    told = capsys.readouterr().out
    num_nodes = min(len(config_of(name).disback.record.node_steps), MOST_NODES)
    assert f"{num_nodes} nodes recorded and walked back" in told
    assert "resumed to the same bits" in told


def test_a_resume_that_forgets_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "unpack_optimizer", lambda *given: None)
    with pytest.raises(smoke_run.RunError, match="the resumed student in .* is not that in"):
        smoke(config_of("gaussians/near"), tmp_path)


def test_a_smoke_run_leaves_what_lies_there_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = ["run", str(EXPERIMENTS / "gaussians/near.yaml"), "--smoke", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "a smoke run needs a folder of its own" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
