"""Runs whose student and fake score are LoRAs on one base: resumed, sampled, over processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.training import OptimizerSettings
from disback_plugin.lab.problems.prompts import PromptEncoder
from disback_plugin.lab.sampling import open_student
from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.shared_base import adaptable
from disback_plugin.path import DegradationPath
from disback_plugin.pretrained import load_denoiser
from tests.lab.trainer.checkpoint_cases import PROMPTS, settings
from tests.lab.trainer.conftest import lines, resumed, same_bits, tensors
from tests.lab.trainer.test_processes import _environment

TEACHER = "teacher.options={guidance_scale: 3.0, dtype: bf16}"
ONE_GPU = (TEACHER, "gradient_checkpointing=true", "problem.encode_ahead=true")


def one_gpu(files: Path, *overrides: str, rank: int = 2) -> ExperimentConfig:
    return settings("sdxl", files, *ONE_GPU, f"lora={{rank: {rank}, alpha: 1.0}}", *overrides)


@pytest.fixture(scope="module")
def done(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment's folder."""
    out = tmp_path_factory.mktemp("shared") / "out"
    run_experiment(one_gpu(files), out, ["disback"])
    return out


def test_a_run_records_loras_walks_back_and_resumes_to_the_same_bits(
    files: Path, done: Path, tmp_path: Path
) -> None:
    run = done / "runs" / "disback-seed0"
    told = lines(run / "metrics.jsonl")
    switches = [(line["step"], line["node"]) for line in told if line["kind"] == "switch"]
    assert switches == [(3, 2), (4, 1), (5, 0)]
    path = DegradationPath.open(run / "path")
    assert all(".lora_" in name for name in path.read(1))
    assert all(0 < node.distance < 1 for node in path.nodes)
    assert path.verify() == []
    again = resumed(one_gpu(files), done, tmp_path / "again")
    assert same_bits(tensors(again), tensors(run))
    first, last = (f"checkpoints/step_00000{step}/student.safetensors" for step in (4, 7))
    assert (again / last).read_bytes() == (run / last).read_bytes() != (run / first).read_bytes()


def test_eight_bit_moments_are_resumed_to_the_same_bits(files: Path, tmp_path: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    eight = ("distill.fake_optimizer=adamw8bit", "distill.student_optimizer=adamw8bit")
    config, out = one_gpu(files, *eight, rank=64), tmp_path / "out"
    run_experiment(config, out, ["disback"])
    saved = out / "runs/disback-seed0/checkpoints/step_000004"
    state = json.loads((saved / "state.json").read_text())["fake_score_optimizer"]
    assert {key.partition(".")[2] for key in state["scalars"]} == {"step"}, bnb.__version__
    from safetensors.torch import load_file

    moments = load_file(saved / "fake_score_optimizer.safetensors")
    assert {value.dtype for value in moments.values()} >= {torch.uint8}
    run = resumed(config, out, tmp_path / "again")
    assert same_bits(tensors(run), tensors(out / "runs" / "disback-seed0"))


def test_eight_bits_without_their_library_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes, or ask for adamw"):
        OptimizerSettings((0.9, 0.999), eight_bit=True).make([torch.nn.Parameter(torch.ones(1))])


def test_the_student_stands_alone_with_its_lora_fused_in_float32(files: Path, done: Path) -> None:
    student = open_student(f"run:{done}/runs/disback-seed0", {"weights": "raw"})
    held = tensors(done / "runs" / "disback-seed0")
    base = load_denoiser(f"diffusers:{files}/sdxl", dtype="bf16").float()
    names = {name.rpartition(".lora_")[0] for name in held if name.startswith("raw.")}
    assert len(names) > 20
    fused = dict(adaptable(student.denoiser).named_parameters())
    changed = set()
    for name, value in adaptable(base).named_parameters():
        module = f"raw.{name.removesuffix('.weight')}"
        if module in names:
            a, b = (held[f"{module}.lora_{one}.weight"] for one in "AB")
            product = (b.flatten(1) @ a.flatten(1)).reshape(value.shape)
            torch.testing.assert_close(fused[name], value + product / 2, rtol=1e-5, atol=1e-7)
            changed |= {module} if not torch.equal(fused[name], value) else set()
        else:
            assert torch.equal(fused[name], value)
    assert changed == names


def test_prompts_encoded_ahead_are_kept_in_bf16_and_the_encoders_freed(files: Path) -> None:
    spec, cpu = f"diffusers:{files}/sdxl", torch.device("cpu")
    ahead = PromptEncoder(PROMPTS, spec, {}, ahead=True)
    as_they_come = PromptEncoder(PROMPTS, spec, {})
    labels = torch.tensor([2, 0])
    found, expected = ahead(labels, cpu), as_they_come(labels, cpu)
    assert torch.equal(found.hidden, expected.hidden.bfloat16())
    assert torch.equal(found.pooled, expected.pooled.bfloat16())
    assert ahead._encoder is None
    ahead.prompts = []  # nothing is asked for again
    assert len(ahead(torch.tensor([1, 1, 2]), cpu)) == 3


def test_only_the_first_prompts_are_taken(files: Path) -> None:
    from disback_plugin.lab.trainer.experiment import Experiment

    config = settings("sdxl", files, "problem.first=2")
    assert Experiment(config, Path("nowhere")).problem.num_classes == 2


def test_a_dtype_that_is_none_is_refused(files: Path) -> None:
    with pytest.raises(ConfigError, match="option 'dtype' is 'fp8'; valid: bf16, float32"):
        load_denoiser(f"diffusers:{files}/sdxl", dtype="fp8")


@pytest.mark.thorough
def test_two_processes_train_like_one_with_the_same_global_batch(
    files: Path, done: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(one_gpu(files).to_yaml())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]  # torchrun itself
    command += ["--nproc-per-node=2", "-m", "disback_plugin", "run", str(tmp_path / "config.yaml")]
    command += ["--arm", "disback", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stderr
    one, two = (folder / "runs" / "disback-seed0" for folder in (done, tmp_path / "out"))
    single, double = (DegradationPath.open(folder / "path") for folder in (one, two))
    for node in range(1, 4):
        first, second = single.read(node), double.read(node)
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=1e-2, atol=3e-4)
    walks = [[li["node"] for li in lines(f / "metrics.jsonl", "switch")] for f in (one, two)]
    assert walks[0] == walks[1] == [2, 1, 0]
