"""The training state in one process, without a host: what it refuses, and where the data go on."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.diff_instruct import DiffInstructHost
from disback_plugin.adapters.diff_instruct import teacher as diff_instruct_teacher
from disback_plugin.adapters.diff_instruct.overlay import Overlay, TrainingState
from disback_plugin.errors import AdapterError, ConfigError, SessionError


def network(width: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


def settings(folder: Path, resume: Path | None = None) -> dict[str, Any]:
    config = DisBackConfig.model_validate(
        {"path": folder / "path", "record": {"num_steps": 3, "at": (1, 3)}}
    )
    return {"config": config.model_dump(mode="json"), "resume": resume and str(resume)}


def saved(folder: Path) -> Path:
    """The output folder of a run that ended its first tick."""
    networks = [network() for _ in range(4)]
    run = Overlay(settings(folder), *networks[:3])
    state = TrainingState(settings(folder), seed=3, batch_size=10)
    optimizers = [torch.optim.Adam(module.parameters()) for module in networks[1:3]]
    state.watch(run, {"G": networks[2], "Sg": networks[1], "Gema": networks[3]}, optimizers)
    run.begin_step(0)
    with torch.no_grad():
        networks[1][0].weight += 1
    run.end_step(0)
    state.end_tick(str(folder), 10, 0, False, 1)
    return folder


def test_a_state_is_written_with_snapshots_only(tmp_path: Path) -> None:
    networks = [network() for _ in range(3)]
    state = TrainingState(settings(tmp_path), seed=3, batch_size=10)
    state.watch(Overlay(settings(tmp_path), *networks), {}, [])
    state.end_tick(str(tmp_path), 10, 1, False, 2)  # no snapshot is due
    state.end_tick(str(tmp_path), 10, 0, True, None)  # none ever is
    TrainingState(None, 3, 10).end_tick(str(tmp_path), 10, 0, True, 1)  # no --disback
    assert not list(tmp_path.glob("*.safetensors"))
    state.end_tick(str(tmp_path), 10, 1, True, 2)
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["disback-state.safetensors"]


def test_the_data_go_on_behind_what_was_seen(tmp_path: Path) -> None:
    resumed = TrainingState(settings(tmp_path, saved(tmp_path)), seed=3, batch_size=10)
    sampler = resumed.skip_seen(range(100))
    assert list(islice(sampler, 3)) == list(islice(sampler, 3)) == [10, 11, 12]
    fresh = TrainingState(settings(tmp_path), seed=3, batch_size=10)
    assert list(islice(fresh.skip_seen(range(9)), 3)) == [0, 1, 2]
    assert fresh.restore(0, 0, total_kimg=1) == (0, 0)


@pytest.mark.parametrize(
    ("seed", "batch", "message"),
    [(4, 10, "made with --seed 3, now it is 4: resume with 3"), (3, 20, "made with --batch 10")],
)
def test_other_settings_are_refused(tmp_path: Path, seed: int, batch: int, message: str) -> None:
    with pytest.raises(SessionError, match=message):
        TrainingState(settings(tmp_path, saved(tmp_path)), seed, batch)


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"has no disback-state\.safetensors.*output folder"):
        TrainingState(settings(tmp_path, tmp_path), 3, 10)
    save_file({"a": torch.ones(1)}, tmp_path / "disback-state.safetensors")
    with pytest.raises(SessionError, match="is no training state"):
        TrainingState(settings(tmp_path, tmp_path), 3, 10)
    (tmp_path / "disback-state.safetensors").write_bytes(b"torn")
    with pytest.raises(SessionError, match="is no whole safetensors file"):
        TrainingState(settings(tmp_path, tmp_path), 3, 10)


def test_a_training_that_is_over_is_not_trained_a_step_too_far(tmp_path: Path) -> None:
    resumed = TrainingState(settings(tmp_path, saved(tmp_path)), seed=3, batch_size=10)
    with pytest.raises(SessionError, match="after 10 images.*is over: give a longer --duration"):
        resumed.restore(0, 0, total_kimg=0)


def test_nodes_go_in_place_whatever_is_asked(tmp_path: Path) -> None:
    host = DiffInstructHost(network(), network(), network())
    config = DisBackConfig(path=tmp_path, installation="separate")
    with pytest.raises(AdapterError, match="installs nodes 'in-place' only .asked: 'separate'"):
        DisBack.attach(host, adapter="diff-instruct", config=config)
    with pytest.raises(AdapterError, match="a DiffInstructHost .seen: dict"):
        DisBack.attach({}, adapter="diff-instruct", config=config)


def test_a_teacher_that_would_not_be_loaded_is_refused() -> None:
    diff_instruct_teacher.check(network(), network())
    with pytest.raises(ConfigError, match=r"the 7 tensors .*'0\.weight'.*6 in all.*--arch"):
        diff_instruct_teacher.check(network(width=5), network())
    more = nn.Sequential(*network(), nn.Linear(4, 2))
    diff_instruct_teacher.check(more, network())  # what is not wanted does not matter
    with pytest.raises(ConfigError, match=r"the 9 .*missing .*2\.bias', '2\.weight'\] \(2 in"):
        diff_instruct_teacher.check(network(), more)
