"""Every checkpoint format as teacher and as start of the student, in all arms of the trainer."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from disback_plugin.data import write_image_lmdb
from disback_plugin.diffusion import TextCondition, VPDenoiser, without_guidance
from disback_plugin.errors import CheckpointError, ConfigError, RunError
from disback_plugin.path import DegradationPath
from disback_plugin.pretrained import describe, load_denoiser, load_text_encoder
from disback_plugin.trainer import ARMS, ExperimentConfig, parse_config, run_experiment
from disback_plugin.trainer.build import make_student
from disback_plugin.trainer.distill_job import make_networks
from disback_plugin.trainer.problem import Problem, make_problem
from disback_plugin.trainer.prompt_encoder import PromptEncoder
from disback_plugin.trainer.teacher_source import load_source
from tests.pretrained.files import OPENAI_OPTIONS, write_edm_pickle, write_openai
from tests.pretrained.pipelines import save_ddpm
from tests.pretrained.test_diffusers_text import save_lora
from tests.pretrained.text_pipelines import save_sd, save_sdxl, text_unet
from tests.trainer.conftest import lines, same_bits, tensors

STEPS: dict[str, Any] = {
    "name": "checkpoint",
    "method": "dmd",
    "distill": {"num_steps": 7, "batch_size": 2},
    "disback": {
        "record": {"num_steps": 3, "every": 1},
        "schedule": {"name": "fixed", "interval": 1},
    },
    "evaluation": {"every": 7, "num_samples": 4, "num_saved": 4},
    "checkpoint": {"every": 4, "keep": 9},
    "logging": {"every": 1, "progress": False},
    "device": "cpu",
    "num_threads": 1,
}
PROMPTS = ["a cat", "two dogs", "a row of houses"]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the cases below name."""
    folder = tmp_path_factory.mktemp("files")
    write_edm_pickle(folder / "edm.pkl")
    write_openai(folder / "cd_tiny.pt")
    write_openai(folder / "edm_tiny_ema.pt")
    save_ddpm(folder / "ddpm")
    pipeline = save_sd(folder / "sd")
    save_sdxl(folder / "sdxl")
    save_lora(folder, text_unet(pipeline.unet.config.cross_attention_dim))
    images = torch.randint(0, 256, (12, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    write_image_lmdb(folder / "lmdb", ((image, None) for image in images.byte().numpy()))
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder


IMAGES = {"kind": "images", "lmdb": "{}/lmdb"}
TEXT = {"kind": "prompts", "file": "{}/prompts.txt"}
OPENAI = {"checkpoint": "cm:{}/cd_tiny.pt", "options": OPENAI_OPTIONS}
OPENAI_EDM = {**OPENAI, "checkpoint": "cm:{}/edm_tiny_ema.pt"}
GUIDED = {"checkpoint": "diffusers:{}/sd", "options": {"guidance_scale": 3.0}}
LCM = {
    "checkpoint": "diffusers:{}/sd",
    "options": {"lora": "{}/lora.safetensors", "lcm": True},
}
# name -> problem, teacher, student, its one-step noise level
CASES: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "edm": (IMAGES, "edm-pkl:{}/edm.pkl", {"sigma": 80.0}),
    "cm": (IMAGES, OPENAI, {"sigma": 80.0}),
    "cm from edm": (IMAGES, OPENAI_EDM, {"sigma": 80.0, **OPENAI}),
    "ddpm": (IMAGES, "diffusers:{}/ddpm", {"timestep": 999}),
    "sd": (TEXT, GUIDED, {"timestep": 999}),
    "lcm": (TEXT, GUIDED, {"timestep": 999, **LCM}),
    "sdxl": (TEXT, "diffusers:{}/sdxl", {"timestep": 399}),
}


def settings(name: str, files: Path, *overrides: str) -> ExperimentConfig:
    problem, teacher, student = CASES[name]
    data = copy.deepcopy(STEPS)
    data |= {"problem": problem, "student": {"kind": "denoiser", **student}}
    data["teacher"] = {"checkpoint": teacher} if isinstance(teacher, str) else {**teacher}
    data["teacher"] |= {"num_sampling_steps": 2, "sampling_sigma_max": 10.0}
    data["evaluation"]["primary"] = "energy_distance" if problem is TEXT else "fd_pixel"
    data = json.loads(json.dumps(data).replace("{}", str(files)))
    return parse_config(data, name, overrides)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edm", "cm from edm", "ddpm", "lcm", "sdxl"])
def test_every_format_trains_in_all_arms_and_resumes(
    name: str, files: Path, tmp_path: Path
) -> None:
    config, out = settings(name, files), tmp_path / "out"
    run_experiment(config, out)
    assert {file.name for file in (out / "teacher").iterdir()} == {
        *(".lock", "source.json", "samples.safetensors", "reference.json")
    }
    for arm in ARMS:
        told = lines(out / "runs" / f"{arm}-seed0" / "metrics.jsonl")
        switches = [(line["step"], line["node"]) for line in told if line["kind"] == "switch"]
        assert switches == ([(3, 2), (4, 1), (5, 0)] if arm == "disback" else [])
        nodes = [line for line in told if line["kind"] == "node"]
        assert len(nodes) == (0 if arm == "fixed" else 3)
        assert all(line["distance"] > 0 for line in nodes)
        values = [v for line in told if line["kind"] == "eval" for v in line["metrics"].values()]
        assert len(values) == 2
        assert all(0 <= value < float("inf") for value in values)
    path = DegradationPath.open(out / "runs" / "disback-seed0" / "path")
    assert len(path) == 3
    assert path.verify() == []
    resumed = tmp_path / "resumed"
    shutil.copytree(out, resumed)
    run = resumed / "runs" / "disback-seed0"
    (run / "run.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000007")
    run_experiment(config, resumed, ["disback"], resume=True)
    assert same_bits(tensors(run), tensors(out / "runs" / "disback-seed0"))


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_the_initial_student_is_its_checkpoint_asked_once(name: str, files: Path) -> None:
    config = settings(name, files)
    student, teacher = config.student, config.teacher
    assert student.kind == "denoiser"
    assert teacher.checkpoint is not None
    own = student if student.checkpoint else teacher
    denoiser = without_guidance(load_denoiser(own.checkpoint, **own.options))
    sigma = student.sigma
    if student.timestep is not None:
        assert isinstance(denoiser, VPDenoiser)
        t = torch.tensor(student.timestep, dtype=torch.float64)
        sigma = min(float(denoiser.schedule.sigma_of_t(t)), denoiser.sigma_max)
        assert denoiser.timestep(torch.tensor([sigma])).item() == student.timestep
    shape = describe(denoiser).data_shape
    cond: Any = torch.arange(3)
    if config.problem.kind == "prompts":
        cond = load_text_encoder(teacher.checkpoint)(PROMPTS)
    elif not describe(denoiser).num_classes:
        cond = None
    z = torch.randn(3, *shape)
    made = make_student(student, load_denoiser(teacher.checkpoint, **teacher.options), shape, 0)
    assert torch.equal(made.eval()(z, cond), denoiser(sigma * z, torch.full((3,), sigma), cond))


def test_guidance_is_the_teachers_alone(files: Path, accelerator: Accelerator) -> None:
    config = settings("sd", files)
    assert config.teacher.checkpoint is not None
    teacher = load_denoiser(config.teacher.checkpoint, **config.teacher.options)
    problem = Problem(kind="prompts", data_shape=(4, 8, 8), num_classes=3)
    networks = make_networks(config, teacher.requires_grad_(False), problem, 0, accelerator)
    cond = load_text_encoder(config.teacher.checkpoint)(PROMPTS)
    x, sigma = torch.randn(3, 4, 8, 8), torch.full((3,), 2.0)
    plain = load_denoiser(config.teacher.checkpoint)(x, sigma, cond)
    assert torch.equal(networks.fake_score.raw.eval()(x, sigma, cond), plain)
    assert not torch.equal(networks.teacher(x, sigma, cond), plain)


def test_a_prompt_is_encoded_once_and_the_same_whatever_the_cache_held(files: Path) -> None:
    encoder = PromptEncoder(PROMPTS, f"diffusers:{files}/sd", {}, cache_size=2)
    asked: list[str] = []
    cpu = torch.device("cpu")
    first = encoder(torch.tensor([0, 1, 0]), cpu)
    assert encoder._encoder is not None
    inner = encoder._encoder

    def counted(prompts: Sequence[str]) -> TextCondition:
        asked.extend(prompts)
        return inner(prompts)

    encoder._encoder = counted  # type: ignore[assignment]
    assert torch.equal(encoder(torch.tensor([1, 0, 0]), cpu).hidden[0], first.hidden[1])
    assert asked == []
    encoder(torch.tensor([2]), cpu)  # 1 is the oldest now and goes
    again = encoder(torch.tensor([0, 1]), cpu)
    assert asked == [PROMPTS[2], PROMPTS[1]]
    assert torch.equal(again.hidden, first.hidden[:2])


def test_a_spec_alone_is_short_for_a_checkpoint(files: Path) -> None:
    long = settings("edm", files)
    spec = f"edm-pkl:{files}/edm.pkl"
    short = settings("edm", files, f"teacher={spec}")
    assert short.teacher.checkpoint == long.teacher.checkpoint == spec
    assert parse_config(short.model_dump(mode="json"), "again") == short


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.file=x", "exactly one of 'training' and 'file', or a 'checkpoint'"),
        ("teacher.network={kind: small-unet}", "a 'checkpoint' brings its own"),
        ("teacher.checkpoint=null", "exactly one of"),
        ("student={kind: denoiser, sigma: 1, options: {a: 1}}", "they need 'checkpoint'"),
    ],
)
def test_settings_that_contradict_are_refused(override: str, message: str, files: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        settings("edm", files, override)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        (
            "ddpm",
            "teacher=diffusers:{}/sd",
            "takes text needs problem kind 'prompts', not 'images'",
        ),
        ("sd", "teacher=diffusers:{}/ddpm", "'prompts' needs a teacher that takes text"),
        ("edm", "problem={kind: digits}", r"data has shape .1, 8, 8., the teacher's samples .3, 8"),
        ("edm", "student.checkpoint=diffusers:{}/sd", "makes samples of shape .4, 8, 8."),
        ("edm", "student.checkpoint=diffusers:{}/ddpm", "conditioned on 'none', the teacher on"),
    ],
)
def test_what_does_not_fit_each_other_is_refused(
    name: str, override: str, message: str, files: Path, tmp_path: Path
) -> None:
    changed = [override.replace("{}", str(files))]
    changed += ["evaluation.primary=fd_pixel"] if "digits" in override else []
    with pytest.raises(ConfigError, match=message):
        run_experiment(settings(name, files, *changed), tmp_path / "out", ["fixed"])


def test_a_teacher_that_changed_is_not_resumed_with(files: Path, tmp_path: Path) -> None:
    copied = tmp_path / "teacher.pkl"
    shutil.copy(files / "edm.pkl", copied)
    config = settings("edm", files, f"teacher.checkpoint=edm-pkl:{copied}")
    run_experiment(config, tmp_path / "out", arms=[])
    write_edm_pickle(copied, "adm-both-labels")
    with pytest.raises(RunError, match="is not the teacher that .*out was started with"):
        run_experiment(config, tmp_path / "out", ["fixed"], resume=True)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("name", ["edm", "sd"])
def test_mixed_precision_trains(name: str, files: Path, tmp_path: Path) -> None:
    run_experiment(settings(name, files, "mixed_precision=bf16"), tmp_path / "out", ["disback"])
    final = tensors(tmp_path / "out/runs/disback-seed0")
    assert all(value.dtype == torch.float32 for value in final.values())
    assert all(torch.isfinite(value).all() for value in final.values())


def test_a_labelled_teacher_is_told_labels_unless_that_is_switched_off(files: Path) -> None:
    config = settings("edm", files)
    _, source = load_source(config.teacher)
    assert make_problem(config.problem, source).num_classes == 5
    without = settings("edm", files, "problem.conditional=false")
    assert make_problem(without.problem, source).num_classes == 0
    assert make_problem(config.problem).num_classes == 0


def test_a_teacher_is_trained_on_images_from_an_lmdb(files: Path, tmp_path: Path) -> None:
    teacher = {
        "denoiser": {"kind": "edm"},
        "network": {"kind": "small-unet", "channels": 8, "multipliers": [1], "attention": False},
        "training": {"num_steps": 2, "batch_size": 4},
        "num_sampling_steps": 2,
    }
    config = settings("edm", files, f"teacher={json.dumps(teacher)}")
    run_experiment(config, tmp_path / "out", arms=[])
    reference = json.loads((tmp_path / "out/teacher/reference.json").read_text())
    assert reference["fd_pixel"] > 0
    assert describe(load_denoiser(f"run:{tmp_path}/out")).data_shape == (3, 8, 8)


def test_a_run_with_a_text_teacher_is_a_text_teacher(files: Path, tmp_path: Path) -> None:
    config = settings("sd", files)
    run_experiment(config, tmp_path / "out", arms=[])
    spec = f"run:{tmp_path}/out"
    cond = load_text_encoder(spec)(PROMPTS)
    x, sigma = torch.randn(3, 4, 8, 8), torch.full((3,), 2.0)
    assert config.teacher.checkpoint is not None
    theirs = load_denoiser(config.teacher.checkpoint, **config.teacher.options)
    assert torch.equal(load_denoiser(spec)(x, sigma, cond), theirs(x, sigma, cond))


def test_a_missing_file_leaves_no_folder_behind(files: Path, tmp_path: Path) -> None:
    for override in ("teacher=edm-pkl:missing.pkl", "student.checkpoint=cm:missing.pt"):
        with pytest.raises(CheckpointError, match="no such file or folder: missing"):
            run_experiment(settings("edm", files, override), tmp_path / "out", arms=[])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edm", "sd"])
def test_two_processes_train_like_one(name: str, files: Path, tmp_path: Path) -> None:
    """EDM's weights for augmentation labels get no gradient; prompts are no tensors."""
    config = settings(name, files, "distill.dropout=false")
    run_experiment(config, tmp_path / "one", ["disback"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    command = "-m torch.distributed.run --standalone --nproc-per-node=2 -m disback_plugin run"
    done = subprocess.run(
        [
            *(sys.executable, *command.split(), str(tmp_path / "config.yaml")),
            *("--arm", "disback", "--out", str(tmp_path / "two")),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    one, two = (tensors(tmp_path / folder / "runs/disback-seed0") for folder in ("one", "two"))
    assert one.keys() == two.keys()
    # Adam turns a gradient of rounding errors into whole steps: single weights may differ
    far = sum(int(((one[key] - two[key]).abs() > 1e-5).sum()) for key in one)
    assert far < 0.01 * sum(value.numel() for value in one.values())
