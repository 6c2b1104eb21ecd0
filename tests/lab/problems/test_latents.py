from dataclasses import replace
from pathlib import Path

import pytest
import torch

from disback_plugin.diffusion import Description
from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import LatentLMDB, write_latent_lmdb
from disback_plugin.lab.metrics import energy_distance
from disback_plugin.lab.problems import TeacherSource
from disback_plugin.lab.problems.latents import LatentPrompts, LatentsConfig
from disback_plugin.lab.problems.teacher_alone import TeacherAloneConfig
from tests.lab.data.lmdb_folders import LATENTS, NUM, PROMPTS


def source(condition: str, num_classes: int = 0) -> TeacherSource:
    description = Description(
        source="diffusers",
        architecture="any",
        num_parameters=1,
        data_shape=(4, 2, 2),
        num_classes=num_classes,
        parametrisation="eps",
        sigma_min=0.01,
        sigma_max=100.0,
        condition=condition,
    )
    return TeacherSource(spec="none", options={}, fingerprint="", description=description)


@pytest.fixture
def lmdb(tmp_path: Path) -> Path:
    write_latent_lmdb(tmp_path / "lmdb", zip(LATENTS, PROMPTS, strict=True))
    return tmp_path / "lmdb"


def test_the_prompts_of_an_lmdb_are_a_sequence(lmdb: Path) -> None:
    prompts = LatentPrompts(LatentLMDB(lmdb))
    assert list(prompts) == PROMPTS
    assert (prompts[-1], prompts[2:4]) == (PROMPTS[-1], PROMPTS[2:4])
    with pytest.raises(IndexError):
        prompts[NUM]


def test_samples_are_judged_against_the_latents(lmdb: Path, tmp_path: Path) -> None:
    problem = LatentsConfig(lmdb=lmdb).load(source("text"))
    assert (problem.num_classes, problem.data_shape) == (NUM, (4, 2, 2))
    evaluator = problem.evaluator(500, tmp_path)
    far = torch.from_numpy(LATENTS).half().float()
    # 500 draws of 12 latents with replacement are nearly all of them, alike often
    assert evaluator(far)["energy_distance"] < 0.3
    assert evaluator(far + 5)["energy_distance"] > 3
    assert evaluator(far)["energy_distance"] == energy_distance(far, evaluator.data)


@pytest.mark.parametrize("teacher", [None, source("none")])
def test_latents_need_a_teacher_that_takes_text(lmdb: Path, teacher: TeacherSource | None) -> None:
    with pytest.raises(ConfigError, match="'latents' needs a teacher that takes text"):
        LatentsConfig(lmdb=lmdb).load(teacher)


def test_a_teacher_alone_says_what_is_drawn() -> None:
    problem = TeacherAloneConfig().load(source("class", 5))
    assert (problem.data_shape, problem.num_classes, problem.dataset) == ((4, 2, 2), 5, None)
    assert TeacherAloneConfig(conditional=False).load(source("class", 5)).num_classes == 0
    plane = source("none")
    flat = replace(plane, description=replace(plane.description, data_shape=(2,)))
    with pytest.raises(ConfigError, match=r"is for teachers of images, none makes .* shape \(2,\)"):
        TeacherAloneConfig().load(flat)
    with pytest.raises(ConfigError, match="needs a teacher that is a checkpoint"):
        TeacherAloneConfig().load()
    with pytest.raises(ConfigError, match="'prompts' or 'latents', not 'teacher'"):
        TeacherAloneConfig().load(source("text"))
