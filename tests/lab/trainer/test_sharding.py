"""`sharding: fsdp2`: two processes hold half of every network, and train what whole ones would."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import ExperimentConfig, load_config
from disback_plugin.lab.trainer import loop, run_experiment, sharding
from disback_plugin.lab.trainer.roles import make_accelerator
from tests.adapters.dmd2.driver import allow_fsdp_on_cpu
from tests.lab.trainer.checkpoint_cases import settings
from tests.lab.trainer.conftest import lines, same_bits, tensors, tiny_config
from tests.ranks import on_ranks

RUN = Path("runs") / "disback-seed0"
# of both runs; students in between are files too
KEEP = ("checkpoint.keep=9", "checkpoint.keep_students=8")


def _train(config: Path, out: Path) -> None:
    """A rank's part; `config`.calls tells how many layers the longest step called."""
    allow_fsdp_on_cpu()
    sharding.MIN_UNIT = 50  # of a few hundred
    original: Any = loop.Distillation.train_step
    layers, calls = list[int](), list[int]()
    register_module_forward_pre_hook(
        lambda module, _: None if next(module.children(), None) else layers.append(id(module))
    )

    def looked_at(self: Any, step: int) -> Any:
        roles = self.networks.teacher, self.networks.fake_score.raw, self.networks.student.raw
        parameters = [value for role in roles for value in role.parameters()]
        if not calls:
            assert all(hasattr(value, "full_tensor") for value in parameters), "networks are whole"
        layers.clear()
        done = original(self, step)
        calls.append(len(layers))
        return done

    loop.Distillation.train_step = looked_at
    run_experiment(load_config(str(config)), out, ["disback"], resume=True)
    assert calls
    if os.environ["RANK"] == "0":
        config.with_suffix(".calls").write_text(str(max(calls)))


def launch(folder: Path, out: Path, *overrides: str) -> Path:
    """The run's folder, of two processes."""
    return launch_config(folder, out, tiny_config(*KEEP, *overrides))


def launch_config(folder: Path, out: Path, experiment: ExperimentConfig) -> Path:
    """The same of other settings than the tiny ones."""
    config = folder / f"{out.name}.yaml"
    config.write_text(experiment.to_yaml())
    on_ranks(_train, config, out)
    return out / RUN


def shapes(run: Path) -> dict[str, dict[str, torch.Size]]:
    """Of what the last checkpoint keeps."""
    files = (run / "checkpoints" / "step_000016").glob("*.safetensors")
    return {
        file.name: {name: value.shape for name, value in load_file(file).items()} for file in files
    }


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_two_processes_train_the_student_of_whole_networks_and_resume_bit_for_bit(
    finished: Path, tmp_path: Path
) -> None:
    whole = launch(tmp_path, tmp_path / "whole", "sharding=fsdp2")
    # gradients are summed over two halves of the batch: the order of a float32 sum is all that
    # differs from the run of one process
    for name, value in tensors(finished / RUN).items():
        torch.testing.assert_close(tensors(whole)[name], value, rtol=1e-3, atol=1e-4)
    assert sorted(file.name for file in (whole / "path").iterdir()) == sorted(
        file.name for file in (finished / RUN / "path").iterdir()
    )
    assert shapes(whole) == shapes(finished / RUN)
    stages = [line["stage"] for line in lines(whole / "metrics.jsonl", "train")]
    assert stages == [line["stage"] for line in lines(finished / RUN / "metrics.jsonl", "train")]
    evaluated = [line["metrics"] for line in lines(whole / "metrics.jsonl", "eval")]
    due = [line["metrics"] for line in lines(finished / RUN / "metrics.jsonl", "eval")]
    for found, metrics in zip(evaluated, due, strict=True):
        assert found == pytest.approx(metrics, rel=1e-3)

    for step in (4, 12):  # while recording, and while a node answers
        resumed = tmp_path / f"resumed-{step}"
        shutil.copytree(tmp_path / "whole", resumed)
        (resumed / RUN / "run.json").unlink()
        for folder in (resumed / RUN / "checkpoints").iterdir():
            if int(folder.name.removeprefix("step_")) > step:
                shutil.rmtree(folder)
        again = launch(tmp_path, resumed, "sharding=fsdp2")
        assert same_bits(tensors(again), tensors(whole))
        last = Path("checkpoints") / "step_000016"
        for file in (whole / last).glob("*.safetensors"):
            assert same_bits(load_file(again / last / file.name), load_file(file)), file.name


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_it_accumulates_clips_and_casts_as_whole_networks_do(
    fresh_accelerate: None, tmp_path: Path
) -> None:
    """Fake score and student are alike here, which gradients are told apart by."""
    settings = [
        *("distill.num_accumulation_steps=2", "distill.clip_grad_norm=0.5"),
        *("mixed_precision=bf16", "student={kind: denoiser, sigma: 10.0}"),
    ]
    cut = tensors(launch(tmp_path, tmp_path / "cut", "sharding=fsdp2", *settings))
    assert run_experiment(tiny_config(*settings), tmp_path / "one", ["disback"])
    for name, value in tensors(tmp_path / "one" / RUN).items():
        torch.testing.assert_close(cut[name], value, rtol=0, atol=2e-3)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["edm", "sdxl"])
def test_activations_that_are_computed_again_change_no_bit(
    name: str, files: Path, tmp_path: Path
) -> None:
    """Blocks run again in the backward pass, when FullyShardedDataParallel gathers them itself."""
    small = ("distill.num_steps=4", "evaluation.every=4", "checkpoint.every=4", "sharding=fsdp2")
    runs = [
        launch_config(tmp_path, tmp_path / str(len(more)), settings(name, files, *small, *more))
        for more in ((), ("gradient_checkpointing=true",))
    ]
    assert same_bits(*map(tensors, runs))
    calls, again = (int((tmp_path / f"{num}.calls").read_text()) for num in (0, 1))
    assert again > 1.2 * calls  # of layers, in a step


def test_it_is_refused_where_it_would_not_happen(fresh_accelerate: None) -> None:
    with pytest.raises(ConfigError, match="sharding=fsdp2 needs several processes with a GPU each"):
        make_accelerator(tiny_config("sharding=fsdp2"))
    assert "ACCELERATE_USE_FSDP" not in os.environ  # the next run is not taken for such a launch


def test_it_is_refused_with_what_was_not_tried() -> None:
    with pytest.raises(ConfigError, match="sharding was not tried with compile"):
        tiny_config("sharding=fsdp2", "compile=true")
