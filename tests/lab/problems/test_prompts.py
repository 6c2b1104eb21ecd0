from pathlib import Path

import torch
from safetensors.torch import save_file

from disback_plugin.lab.metrics import energy_distance
from disback_plugin.lab.problems.samples import SamplesEvaluator


def test_samples_are_compared_with_those_in_the_file(tmp_path: Path) -> None:
    theirs, ours = torch.randn(6, 4, 2, 2), torch.randn(5, 4, 2, 2)
    evaluator = SamplesEvaluator(tmp_path / "samples.safetensors")
    save_file({"samples": theirs}, tmp_path / "samples.safetensors")
    assert evaluator(ours) == {"energy_distance": energy_distance(ours, theirs)}
    assert evaluator(theirs) == {"energy_distance": 0.0}
