"""What only DMD2 has: its logs and pictures, checkpoints of weights alone, two files of a save."""

from pathlib import Path

import pytest
import torch

from tests.adapters import checks
from tests.adapters.cases import cases
from tests.adapters.checks import RECORD
from tests.adapters.dmd2.host import PICTURES
from tests.adapters.runs import Runs


@cases("dmd2")
def test_weights_without_optimizers_go_on_with_the_walk(runs: Runs) -> None:
    for rank in runs.whole_ranks:
        first, *_ = runs.notes("on", rank)
        resumed = runs.notes("weights-only", rank)
        assert resumed[0]["step"] == 6
        assert resumed[-1]["step"] == runs.host.num_steps - 1
        path = runs.folder / "killed-path"
        checks.nodes_are_installed([first, *resumed], path, runs.case.dtype)


@cases("dmd2", shard_from=0)
def test_a_run_killed_inside_a_save_goes_on_as_if_it_was_not(runs: Runs) -> None:
    for rank in runs.ranks:
        resumed = runs.notes("resumed-in-save", rank)
        assert resumed[0]["step"] == 9
        checks.resumed_is_the_same(runs.notes("on", rank), resumed)
    checks.nodes_are_installed(
        runs.notes("on"), runs.folder / "killed-in-save-path", runs.case.dtype
    )


@cases("dmd2", automatic=True, num_processes=1)
def test_residuals_are_those_of_the_hosts_own_functions(runs: Runs) -> None:
    """Its samples, noise levels, conditions and predictions, of the same draws."""
    (seen,) = runs.notes("measured")
    for ours, theirs in zip(seen["ours"], seen["theirs"], strict=True):
        first, second = torch.tensor(ours), torch.tensor(theirs)
        assert len(first) >= 16 * 3
        assert (first - second).norm() < 1e-4 * second.norm()


@cases("dmd2")
def test_every_log_has_stage_and_node(runs: Runs) -> None:
    """Each call of wandb.log by itself says where the run is: losses, pictures and times."""
    for rank in runs.ranks:
        for line in runs.notes("on", rank):
            for call in line["calls"]:
                seen = call["disback"]["disback/stage"], call["disback"]["disback/node"]
                expected = checks.stage_at(line["step"]), checks.node_at(line["step"])
                assert seen == expected, (line["step"], call["names"])
    on = runs.notes("on")
    assert on[-1]["logged"]["disback/stage"] == 2
    assert on[RECORD]["logged"]["disback/distance"] > 0


@cases("dmd2", shard_from=0)
def test_pictures_are_drawn_on_the_way_back_only(runs: Runs) -> None:
    """Recording draws none: they need the student's loss."""
    on = runs.notes("on")
    logs_losses = runs.case.kind != "edm"  # at every step without pictures
    for line in on:
        due = line["step"] % PICTURES == 0 and line["step"] >= RECORD
        with_pictures = [call for call in line["calls"] if call["pictures"]]
        assert len(with_pictures) == due, f"step {line['step']}"
        times = [call for call in line["calls"] if "per iteration time" in call["names"]]
        assert len(times) == (line is not on[0])
        assert len(line["calls"]) == len(times) + (1 if logs_losses or due else 0)
    assert sum(line["step"] % PICTURES == 0 for line in on[:RECORD]) > 1


@pytest.mark.parametrize("script", ["train_sd.py", "edm/train_edm.py"])
def test_the_side_files_are_written_before_any_weights(make_host, script: str) -> None:
    tree: Path = make_host("dmd2", False).patched
    text = (tree / "main" / script).read_text()
    save = text[text.index("def save(self)") : text.index("def train_one_step(self)")]
    ours = [save.index("self.disback.save("), save.index("exact_resume.save(")]
    for written in ("torch.save(", "save_state(", "copytree("):
        assert written not in save or max(ours) < save.index(written)
