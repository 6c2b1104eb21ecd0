"""The probe on the student's samples: closed forms, and a training that does not notice it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from disback_plugin.diffusion import GaussianMixtureDenoiser
from disback_plugin.files import read_tensors
from disback_plugin.lab.trainer import distill, driver, run_experiment
from disback_plugin.lab.trainer.diagnostics import ScoreProbe
from disback_plugin.lab.trainer.roles import make_sampler
from tests.lab.trainer.conftest import lines, same_bits, tensors, tiny_config


class Shifted(nn.Module):
    """Student: standard normal samples around (4, 0), with dropout after its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, z, cond):
        return self.dropout(z + torch.tensor([4.0, 0.0]))


class Gaussian(nn.Module):
    """Denoiser of a unit Gaussian at (mean, 0), with dropout after its last layer."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.inner = GaussianMixtureDenoiser(torch.ones(1), torch.tensor([[mean, 0.0]]), 1.0)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, sigma, labels):
        return self.dropout(self.inner(x, sigma))


@pytest.fixture
def probe(accelerator: Accelerator) -> ScoreProbe:
    config = tiny_config()
    problem = config.problem.load()
    return ScoreProbe(config, problem, make_sampler(config, problem, 0, accelerator), accelerator)


def gap_of(distance: float, levels: tuple[float, ...]) -> float:
    """Noise predictions of two unit Gaussians differ by a constant along one of two axes."""
    each = [distance * sigma / (1 + sigma**2) / 2**0.5 for sigma in levels]
    return sum(each) / len(each)


def test_a_node_on_the_way_pulls_the_same_way_by_its_share(probe: ScoreProbe) -> None:
    node, teacher = Gaussian(3.0).eval(), Gaussian(0.0).eval()
    line = probe(node, Gaussian(4.0), Shifted(), teacher)
    assert line["disback/health_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert line["disback/health_size"] == pytest.approx(0.25, rel=1e-4)
    assert line["disback/score_gap"] == pytest.approx(gap_of(1.0, probe.levels), rel=1e-4)


def test_the_teacher_itself_has_a_gap_and_no_health(probe: ScoreProbe) -> None:
    line = probe(Gaussian(0.0).eval(), Gaussian(4.0), Shifted())
    assert line.keys() == {"disback/mismatch", "disback/score_gap"}
    assert line["disback/score_gap"] == pytest.approx(gap_of(4.0, probe.levels), rel=1e-4)


def test_networks_in_training_keep_their_mode_and_no_global_draw_is_made(probe) -> None:
    fake, student = Gaussian(4.0).train(), Shifted().train()
    before = torch.get_rng_state()
    first = probe(Gaussian(0.0).eval(), fake, student)
    assert torch.equal(torch.get_rng_state(), before)
    assert fake.dropout.training
    assert student.dropout.training
    assert probe(Gaussian(0.0).eval(), fake, student) == first


@pytest.mark.slow
def test_training_is_the_same_with_and_without_the_probe(finished, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(distill, "has_probe", lambda *given: False)
    run_experiment(tiny_config(), tmp_path / "out", arms=["disback"])
    on, off = finished / "runs" / "disback-seed0", tmp_path / "out" / "runs" / "disback-seed0"
    assert lines(on / "metrics.jsonl", "mismatch")
    assert not lines(off / "metrics.jsonl", "mismatch")
    assert same_bits(tensors(on), tensors(off))
    for kind in ("train", "eval", "switch", "node"):
        found = [lines(folder / "metrics.jsonl", kind) for folder in (on, off)]
        assert found[0]
        for one, other in zip(*found, strict=True):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.slow
def test_while_a_node_answers_the_teacher_is_asked_with_its_own_weights(tmp_path, monkeypatch):
    seen: list[tuple[bool, bool]] = []
    ask = ScoreProbe.__call__

    def spy(self, real_score, fake_score, student, teacher=None):
        own = read_tensors(tmp_path / "out" / "teacher" / "teacher.safetensors")[0]
        asked = teacher is not None and same_bits(own, teacher.state_dict())
        seen.append((same_bits(own, real_score.state_dict()), asked))
        return ask(self, real_score, fake_score, student, teacher)

    monkeypatch.setattr(ScoreProbe, "__call__", spy)
    run_experiment(tiny_config(), tmp_path / "out", arms=["disback"])
    assert seen == [(True, False), (False, True), (True, False)]  # steps 1, 8 and 16


@pytest.mark.slow
def test_the_probe_counts_in_neither_seconds_nor_passes(tmp_path: Path, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(driver, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    ask = ScoreProbe.__call__

    def slow(self, *networks):
        now[0] += 1000.0
        return ask(self, *networks)

    monkeypatch.setattr(ScoreProbe, "__call__", slow)
    run_experiment(tiny_config(), tmp_path / "out", arms=["fixed"])
    file = tmp_path / "out" / "runs" / "fixed-seed0" / "metrics.jsonl"
    assert now[0] == 3000.0
    assert {line["seconds"] for line in lines(file)} == {0.0}
    assert lines(file)[-1]["passes"] == 16 * 9
