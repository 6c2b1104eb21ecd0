"""What is measured in Diff-Instruct, against its own loss, the real host's and the small one's."""

import copy
import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin.adapters.diff_instruct.measure import Draws, measure_of
from disback_plugin.measure import FEW
from tests.adapters.diff_instruct.driver import FOREIGN
from tests.adapters.diff_instruct.host import DiffInstruct
from tests.adapters.diff_instruct.inputs import NUM_CLASSES, SIDE, make_teacher


@pytest.fixture(params=[False, True], ids=["small", "real"])
def tree(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Its modules can be imported, and are forgotten afterwards."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] in FOREIGN]:
            del sys.modules[name]

    found = DiffInstruct.tree(request.param)
    forget()
    monkeypatch.syspath_prepend(str(found))
    yield found
    forget()


@pytest.mark.slow
def test_residuals_are_those_of_the_hosts_own_loss(tree: Path, tmp_path: Path) -> None:
    make_teacher(tmp_path / "teacher.pkl")
    net = pickle.loads((tmp_path / "teacher.pkl").read_bytes())["ema"]
    student = pickle.loads((tmp_path / "student.pkl").read_bytes())["ema"]
    fake_score = copy.deepcopy(net).train()
    with torch.no_grad():
        for value in fake_score.parameters():
            value += 0.1
    loss: Any = importlib.import_module("training.di_loss").DI_EDMLoss()
    labels = torch.eye(NUM_CLASSES)
    data = [(None, labels[number % NUM_CLASSES].numpy()) for number in range(7)]
    measure = measure_of(net, fake_score, student, Draws(loss, data, 2.5, 40))

    class Noting:
        """The network that the loss is given: it notes how far off its answers are."""

        def train(self) -> None:  # the loss asks for dropout, the measure goes without
            return

        def __call__(self, y: Any, sigma: Any, labels: Any, **more: Any) -> Any:
            answer = network(y, sigma, labels, **more)
            self.residual = (answer - x0) / sigma
            return answer

    for network in (net, fake_score):
        residual, samples = measure(network)
        modes = [part.training for part in network.modules()]
        torch.manual_seed(0)
        given = torch.stack([labels[i % NUM_CLASSES] for i in torch.randint(7, (FEW,)).tolist()])
        noting, z = Noting(), 2.5 * torch.randn(FEW, 3, SIDE, SIDE)
        with torch.no_grad():
            levels, none = torch.full((FEW, 1, 1, 1), 2.5), torch.zeros(FEW, 9)
            x0 = student.eval()(z, levels, given, augment_labels=none)
            network.eval()
            loss(net=noting, images=x0, labels=given, augment_pipe=None)
        assert torch.equal(samples, x0)
        torch.testing.assert_close(residual, noting.residual, rtol=1e-4, atol=1e-5)
        assert any(modes) == (network is fake_score)  # left as they were
