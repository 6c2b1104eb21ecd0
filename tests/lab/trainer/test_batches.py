import pytest
import torch

from disback_plugin.diffusion import LogNormal
from disback_plugin.lab.noise import Noise
from disback_plugin.lab.trainer.batches import BatchSampler


@pytest.mark.parametrize("num_classes", [0, 10])
def test_ranks_together_draw_what_one_process_draws(num_classes: int) -> None:
    def draw(rank: int, num_ranks: int) -> list[torch.Tensor]:
        noise, device = Noise(4, rank, num_ranks), torch.device("cpu")
        drawn = BatchSampler(noise, 8, (3,), (1, 2, 2), num_classes, device).draw(
            9, "s", LogNormal()
        )
        cond = [] if drawn.cond is None else [drawn.cond]
        return [drawn.z, drawn.eps, drawn.sigma, *cond]

    whole, parts = draw(0, 1), [draw(rank, 4) for rank in range(4)]
    assert len(whole) == (4 if num_classes else 3)
    for index, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[index] for part in parts]), expected)


def test_parts_for_accumulation_are_the_batch_in_order() -> None:
    sampler = BatchSampler(Noise(0), 6, (2,), (2,), 3, torch.device("cpu"))
    whole = sampler.draw(0, "s", LogNormal())
    parts = whole.split(3)
    assert [len(part.z) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part.sigma for part in parts]), whole.sigma)
    assert whole.cond is not None
    assert torch.equal(torch.cat([p.cond for p in parts if p.cond is not None]), whole.cond)
