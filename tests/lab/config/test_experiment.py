import copy
from pathlib import Path

import pytest
import yaml

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import load_config, parse_config
from tests.lab.trainer.conftest import TINY, tiny_config


def test_the_dumped_config_reads_back_to_an_equal_one(tmp_path: Path) -> None:
    config = tiny_config("distill.fake_sigmas={name: karras, low: 0.02}", "logging.wandb={}")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "config.yaml") == config


def test_an_override_leaves_the_rest_of_its_section_alone() -> None:
    config = tiny_config("distill.student_lr=1e-4")
    assert config.distill.student_lr == 1e-4
    assert config.distill.batch_size == TINY["distill"]["batch_size"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.studnet_lr=1", "did you mean 'student_lr'"),
        ("distil.student_lr=1", "did you mean 'distill'"),
        ("distill.student_lr", "not of the form key=value"),
        ("name.of.run=1", "'name' is not a section"),
        ("distill.student_lr=[", "not valid YAML"),
        ("distill.student_lr=-1", r"distill.student_lr: .* greater than 0 \(seen: -1\)"),
        ("distill.student_momentum=0.9", "of student_optimizer=sgd; adamw has student_betas"),
        ("distill.record_batch_size=9", "record_batch_size=9 is more than batch_size=8"),
        ("method=dmdd", "did you mean 'dmd'"),
        ("distill.fake_weighting=edn", "did you mean 'edm'"),
        ("disback.record.num_steps=16", "counts towards distill.num_steps=16"),
        ("disback.schedule={name: per-node, intervals: [5]}", "give 2 intervals"),
        ("disback.record={num_steps: 6, at: [6]}", "a path of one node has nothing to walk back"),
        ("evaluation.primary=fd_pixel", "problem 'gaussians' has no metric 'fd_pixel'"),
        ("evaluation.metrics=[energy_distanc]", "did you mean 'energy_distance'"),
        ("teacher.file=x", "exactly one of 'training' and 'file'"),
        ("teacher.network.kind=unet", "residual-mlp"),
        ("student={kind: denoiser}", "exactly one of 'sigma' and 'timestep'"),
        ("problem.weights=[1.0]", "'weights' needs 'means'"),
        ("name=../up", "name: "),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_do(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(override)


def test_errors_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    data = copy.deepcopy(TINY)
    del data["distill"]["num_steps"]
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"wrong.yaml: distill.num_steps: Field required"):
        load_config(file)
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="tiny"):
        parse_config(["no", "mapping"], "tiny")


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_config().distill.num_steps = 3  # type: ignore[misc]


def test_the_method_is_one_word_of_any_config() -> None:
    assert tiny_config().method == "diff-instruct"
    assert tiny_config("method=vsd").method == "vsd"


def test_a_file_that_is_not_there_and_a_folder_name_what_is(tmp_path: Path) -> None:
    (tmp_path / "edm.yaml").write_text("name: x")
    with pytest.raises(ConfigError, match=r"no such config file: .*edm\.yml; did you mean 'edm\.y"):
        load_config(tmp_path / "edm.yml")
    with pytest.raises(ConfigError, match=r"is a folder: give a config file \(.*/edm\.yaml\)"):
        load_config(tmp_path)
