"""`experiments/precision`: what its script computes; its table says what its README says."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[2] / "experiments" / "precision"


def load(name):
    spec = importlib.util.spec_from_file_location(f"precision_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measure():
    return load("measure")


@pytest.fixture(scope="module")
def rows():
    return json.loads((FOLDER / "results.json").read_text())


class Wide(nn.Module):
    """A denoiser that is one wide layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(512, 32)

    def forward(self, x, sigma, labels):
        return self.layer(x)


@pytest.mark.parametrize(("digits", "better"), [(24, "nearest"), (8, "stochastic")])
def test_a_small_change_of_a_wide_layer_survives_the_better_rounding(measure, digits, better):
    torch.manual_seed(0)
    network = Wide()
    teacher = {name: value.detach().clone() for name, value in network.state_dict().items()}
    if digits == 8:
        teacher = {name: value.bfloat16().float() for name, value in teacher.items()}
    x, sigma = 1 + torch.randn(64, 512), torch.full((64,), 2.0)
    node = {name: value + 2e-6 for name, value in teacher.items()}
    seen = measure.compare(measure.Questions(network, x, sigma, None), teacher, node)
    errors = {kind: seen[f"{kind}_to_rounded"] for kind in ("nearest", "stochastic")}
    assert min(errors, key=errors.get) == better
    assert (seen["along_nearest"] > 0.5) == (better == "nearest")
    assert seen["weights_nearest"] > 10 or better == "stochastic"
    assert 0.26 < seen["bounded_bytes"] < 0.31
    assert seen["bounded_weights"] < 0.1


def test_the_table_is_that_of_the_rows(measure, rows):
    assert (FOLDER / "results.md").read_text() == measure.table(rows)
    assert {row["network"] for row in rows} == set(measure.NETWORKS)
    assert len(rows) == len(measure.NETWORKS) * len(measure.RATES) * len(measure.STEPS)


def test_the_rows_say_what_the_readme_concludes(rows):
    close = [row for row in rows if row["lr"] == 5e-7]
    for row in close:
        assert row["nearest_to_rounded"] < row["stochastic_to_rounded"]
        assert row["coarse_stochastic"] < row["coarse_nearest"]
        assert row["nearest_arithmetic"] == pytest.approx(row["arithmetic"], rel=0.1)
    for row in rows:  # what the warning asks tells what is lost in the answers
        for kept, error in (("along", "nearest_to_rounded"), ("coarse_along", "coarse_nearest")):
            if row[f"{kept}_nearest"] < 0.3:
                assert row[error] > 0.5
            if row[f"{kept}_nearest"] > 0.9:
                assert row[error] < 0.75
        assert row["bounded_weights"] <= 0.1
        assert row["bounded_bytes"] <= 0.30
