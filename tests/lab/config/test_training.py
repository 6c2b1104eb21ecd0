import math

import pytest

from disback_plugin.lab.config.training import LRSchedule


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (LRSchedule(), [1, 1, 1, 1, 1, 1, 1, 1]),
        (LRSchedule(num_warmup_steps=3), [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1]),
        (LRSchedule(kind="linear"), [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (
            LRSchedule(kind="linear", num_warmup_steps=4, final=0.5),
            [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 7 / 8, 6 / 8, 5 / 8],
        ),
        (
            LRSchedule(kind="cosine", num_warmup_steps=4),
            [
                1 / 5,
                2 / 5,
                3 / 5,
                4 / 5,
                1,
                (1 + math.sqrt(0.5)) / 2,
                0.5,
                (1 - math.sqrt(0.5)) / 2,
            ],
        ),
    ],
)
def test_factors_over_eight_steps(schedule: LRSchedule, factors: list[float]) -> None:
    assert [schedule.factor(step, 8) for step in range(8)] == pytest.approx(factors)


def test_after_the_last_step_the_decay_stays_at_its_end() -> None:
    assert LRSchedule(kind="cosine", final=0.1).factor(20, 8) == pytest.approx(0.1)
