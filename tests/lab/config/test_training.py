import math

import pytest

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.training import DistillConfig, LRSchedule


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


def test_the_average_halves_in_so_many_images() -> None:
    config = DistillConfig(num_steps=9, batch_size=32, student_ema_half_life=500_000)
    updates = 500_000 // 32
    assert config.ema_decay(0) ** updates == pytest.approx(0.5)
    assert config.ema_decay(7) == config.ema_decay(0)
    assert DistillConfig(num_steps=9).ema_decay(3) == 0.99


def test_the_half_life_is_short_at_first_with_a_rampup() -> None:
    config = DistillConfig(
        num_steps=9, batch_size=32, student_ema_half_life=500.0, student_ema_rampup=0.05
    )
    # update k has seen 32 k images, its half-life is 1.6 k; the full one from k = 313 on
    seen = [0.0, 0.5 ** (32 / 1.6), 0.5 ** (32 / 160), 0.5 ** (32 / 500), 0.5 ** (32 / 500)]
    assert [config.ema_decay(k) for k in (0, 1, 100, 313, 9999)] == pytest.approx(seen)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"student_ema_rampup": 0.05}, "give that too"),
        ({"student_ema_half_life": 5.0, "student_ema_decay": 0.9}, "give one of"),
    ],
)
def test_a_half_life_excludes_a_decay(given: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DistillConfig(num_steps=9, **given)
