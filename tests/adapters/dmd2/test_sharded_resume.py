"""Whole weights into a sharded module; checkpoints whose shards are not all there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from disback_plugin.adapters.dmd2 import sharded_resume
from disback_plugin.errors import SessionError


def trainer(output: Path) -> SimpleNamespace:
    model = nn.ModuleDict({"feedforward_model": nn.Linear(2, 2), "guidance_model": nn.Linear(2, 2)})
    parts = {}
    for role, module in (("generator", "feedforward_model"), ("guidance", "guidance_model")):
        optimizer = torch.optim.AdamW(model[module].parameters(), lr=0.1)
        model[module](torch.ones(1, 2)).sum().backward()
        optimizer.step()
        parts[f"optimizer_{role}"] = SimpleNamespace(optimizer=optimizer)
        parts[f"scheduler_{role}"] = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    return SimpleNamespace(output_path=str(output), step=4, model=model, **parts)


def test_a_checkpoint_without_this_ranks_shards_is_refused_by_name(tmp_path: Path) -> None:
    host = trainer(tmp_path)
    sharded_resume.save(host)
    folder = tmp_path / "checkpoint_model_000004"
    assert sorted(file.name for file in folder.iterdir()) == [
        "exact_resume_rank_00000.json",
        "exact_resume_rank_00000.safetensors",
    ]
    (folder / "exact_resume_rank_00000.json").unlink()
    with pytest.raises(SessionError, match=r"has no exact_resume_rank_00000\.json: .*processes"):
        sharded_resume.load(host, folder)


def test_a_save_cut_short_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    host = trainer(tmp_path)
    sharded_resume.save(host)
    folder = tmp_path / "checkpoint_model_000004"
    with pytest.raises(SessionError, match=r"pytorch_model\.bin cannot be read .*cut short"):
        sharded_resume.load(host, folder)
    file = folder / "pytorch_model.bin"
    torch.save(nn.Linear(2, 2).state_dict(), file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SessionError, match=r"pytorch_model\.bin cannot be read .*cut short"):
        sharded_resume.load(host, folder)


def test_weights_of_another_model_are_refused_by_their_names(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save({"other.weight": torch.zeros(1)}, file)
    with pytest.raises(SessionError, match=r"unexpected \['other.weight'\] \(1 in all\)"):
        sharded_resume.load_whole_weights(nn.Linear(2, 2), file)
