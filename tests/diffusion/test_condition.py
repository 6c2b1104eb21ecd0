"""Class labels as ids or one-hot rows; encoded prompts in parts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from disback_plugin.diffusion import TextCondition, class_ids, one_hot_labels
from disback_plugin.errors import DisBackError

IDS = torch.tensor([2, 0, 1])
ROWS = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_ids_and_one_hot_rows_are_the_same_labels():
    like = torch.zeros(1)
    assert torch.equal(class_ids(IDS, 3), IDS)
    assert torch.equal(class_ids(ROWS, 3), IDS)
    assert torch.equal(one_hot_labels(IDS, 3, 3, like), ROWS)
    assert torch.equal(one_hot_labels(ROWS, 3, 3, like), ROWS)


def test_no_labels_are_zero_rows_in_the_dtype_asked_for():
    rows = one_hot_labels(None, 3, 2, torch.zeros(1, dtype=torch.bfloat16))
    assert torch.equal(rows, torch.zeros(2, 3, dtype=torch.bfloat16))


def test_rows_that_mix_classes_pass_as_they_are():
    mixed = torch.tensor([[0.5, 0.5, 0.0]])
    assert torch.equal(one_hot_labels(mixed, 3, 1, mixed), mixed)


@pytest.mark.parametrize(
    ("labels", "num_classes", "reason"),
    [
        (torch.tensor([0, 3]), 3, "reach from 0 to 3"),
        (torch.tensor([-1, 1]), 3, "reach from -1 to 1"),
        (torch.tensor([0]), 0, "takes no class labels"),
        (torch.tensor([0.0]), 3, "torch.float32 of shape"),
        (torch.zeros(2, 4), 3, r"shape \(2, 4\)"),
        (torch.tensor([[0.5, 0.5, 0.0]]), 3, "one-hot"),
        (torch.zeros(1, 3), 3, "one-hot"),
    ],
)
def test_other_labels_are_refused_with_what_was_seen(labels, num_classes, reason):
    with pytest.raises(DisBackError, match=reason):
        class_ids(labels, num_classes)


def rows(part: Callable[[TextCondition], Any]) -> list[list[float]]:
    condition = TextCondition(torch.arange(6.0)[:, None, None], torch.arange(6.0)[:, None] * 10)
    return [[*each.hidden.flatten().tolist(), *each.pooled.flatten().tolist()]
            for each in part(condition)]  # fmt: skip


def test_a_condition_splits_as_tensors_do() -> None:
    assert rows(lambda c: c.split(4)) == [[0, 1, 2, 3, 0, 10, 20, 30], [4, 5, 40, 50]]
    assert rows(lambda c: c.chunk(3)) == [[0, 1, 0, 10], [2, 3, 20, 30], [4, 5, 40, 50]]
    assert rows(lambda c: [TextCondition.cat([c[4:], c[:1]])]) == [[4, 5, 0, 40, 50, 0]]
