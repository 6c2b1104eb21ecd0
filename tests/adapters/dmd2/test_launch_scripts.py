"""The launch scripts: every variable is asked for, and DMD2 and the plugin know every argument."""

import argparse
import ast
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from disback_plugin.adapters.overlay.flags import add_arguments, config_from
from tests.adapters.dmd2.host import ROOT

SCRIPTS = sorted(
    script
    for folder in ("sdxl", "sdv1.5", "imagenet")
    for script in (ROOT / "experiments" / folder).glob("*.sh")
)
scripts = pytest.mark.parametrize(
    "script", SCRIPTS, ids=lambda script: f"{script.parent.name}-{script.stem}"
)
ENDLESS = 10_000_000  # DMD2's way to say: until it is stopped
VARIABLES = {
    "DMD2": "/dmd2",
    "CHECKPOINT_PATH": "/with space/data",
    "OUT": "relative/out",
    "WANDB_ENTITY": "me",
    "WANDB_PROJECT": "project",
    "FSDP_CONFIG": "/fsdp.yaml",
    "NUM_GPUS": "8",
    "NUM_NODES": "1",
    "MASTER_IP": "127.0.0.1",
    "START_FROM": "/checkpoint_model_000010",
}


def dry_run(
    script: Path, *more: str, leave_out: str = "", **changed: str
) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in VARIABLES.items() if name != leave_out} | changed
    return subprocess.run(
        ["bash", str(script), *more],
        env={"PATH": os.environ["PATH"], "DRY_RUN": "1"} | own,
        capture_output=True,
        text=True,
        check=False,
    )


def required(script: Path) -> list[str]:
    text = script.read_text() + (script.parents[1] / "dmd2.sh").read_text()
    return re.findall(r"\$\{(\w+):\?", text)


def arguments(script: Path, *more: str) -> tuple[str, list[str]]:
    """DMD2's script and its arguments."""
    done = dry_run(script, *more)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    place = next(place for place, word in enumerate(words) if word.startswith("main/"))
    return words[place], words[place + 1 :]


@scripts
def test_the_checkpoint_of_the_last_iteration_is_saved(script: Path) -> None:
    """DMD2 saves where step % log_iters == 0, and its last step is train_iters - 1."""
    _, words = arguments(script)
    train_iters, log_iters = (
        int(words[words.index(name) + 1]) for name in ("--train_iters", "--log_iters")
    )
    if train_iters < ENDLESS:
        assert (train_iters - 1) % log_iters == 0
    assert (train_iters < ENDLESS) == (script.name == "one_step.sh" and "sdxl" in script.parts)


@pytest.mark.parametrize("value", ["", "0", "1", "true", "yes"])
def test_a_dry_run_is_any_value_but_none_and_0(tmp_path: Path, value: str) -> None:
    out, checkout = tmp_path / "out", tmp_path / "DMD2"
    checkout.mkdir()
    done = dry_run(SCRIPTS[0], DRY_RUN=value, OUT=str(out), DMD2=str(checkout))
    if value in ("", "0"):
        assert done.returncode == 1
        assert "is not patched" in done.stderr
        assert f"run disback dmd2 apply {checkout}" in done.stderr
    else:
        assert done.returncode == 0
        assert "main/edm/train_edm.py" in done.stdout
    assert not out.exists()


def test_there_is_a_script_for_every_published_setting() -> None:
    assert [f"{script.parent.name}/{script.name}" for script in SCRIPTS] == [
        "imagenet/one_step.sh",
        *("imagenet/one_step_gan.sh", "imagenet/one_step_gan_resume.sh"),
        *("sdv1.5/one_step.sh", "sdv1.5/one_step_gan.sh"),
        *("sdxl/four_step.sh", "sdxl/four_step_lora.sh", "sdxl/one_step.sh"),
    ]


@scripts
def test_every_variable_is_set_or_named(script: Path) -> None:
    names = required(script)
    assert {"DMD2", "CHECKPOINT_PATH", "OUT"} < set(names) <= set(VARIABLES)
    for name in names:
        done = dry_run(script, leave_out=name)
        assert done.returncode != 0
        assert f"{name}: set {name} to" in done.stderr or f"{name}: set {name} (" in done.stderr
        assert done.stdout == ""


@scripts
def test_the_plugins_arguments_are_the_papers(script: Path) -> None:
    _, words = arguments(script)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    args, _ = parser.parse_known_args(words)
    config = config_from(args)
    assert args.disback
    assert config.path is not None
    assert config.path.is_absolute()
    assert str(config.path).endswith("relative/out/path")
    assert config.record is not None
    if script.parent.name == "imagenet":
        assert (config.record.num_steps, config.record.every) == (200, 50)
        assert config.schedule.settings()["intervals"] == [1000, 1000, 10000]
    else:
        assert (config.record.num_steps, config.record.every) == (1000, 100)
        assert config.schedule.settings() == {"name": "fixed", "interval": 1000}


@scripts
def test_dmd2_knows_every_argument(script: Path, upstream: Path) -> None:
    entry, words = arguments(script, "--seed", "3")
    tree = ast.parse((upstream / entry).read_text())
    known = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "add_argument"
        and isinstance(call.args[0], ast.Constant)
    }
    given = {word for word in words if word.startswith("--")}
    assert {word for word in given if not word.startswith("--disback")} <= known
    assert words[-2:] == ["--seed", "3"]


def test_a_lora_under_fsdp_has_its_original_parameters_whatever_the_config_says(
    tmp_path: Path,
) -> None:
    """DMD2's own configs say false, with which FSDP refuses a LoRA beside frozen weights."""
    launch = pytest.importorskip("accelerate.commands.launch")
    config = tmp_path / "fsdp.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 2\n"
        "fsdp_config: {fsdp_sharding_strategy: FULL_SHARD, fsdp_use_orig_params: false}\n"
    )
    lora = ROOT / "experiments" / "sdxl" / "four_step_lora.sh"
    words = shlex.split(dry_run(lora, FSDP_CONFIG=str(config)).stdout)
    parsed = launch.launch_command_parser().parse_args(words[2:])
    assert launch._validate_launch_command(parsed)[0].fsdp_use_orig_params == "true"
