"""What a denoiser is told besides the noise level, labels or prompts; and guidance by prompts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from disback_plugin.errors import ConfigError, DisBackError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class TextCondition:
    """Encoded prompts: hidden states (B, L, C), and what a family has besides.

    pooled: embeddings (B, P), of SDXL, SD3 and Flux. mask: (B, L) bool, where hidden states count,
    of Qwen-Image, whose prompts differ in length; None: everywhere. Moves, splits and is indexed
    along the batch, as a tensor of labels does.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        parts = (self.hidden, self.pooled, self.mask)
        return sum(part.nbytes for part in parts if part is not None)

    def __getitem__(self, rows: slice | Tensor) -> "TextCondition":
        return self._each(lambda part: part[rows])

    def to(self, target: torch.device | torch.dtype | Tensor) -> "TextCondition":
        """The same on a device, in a dtype, or as another tensor has both."""
        moved = self._each(lambda part: part.to(target))
        return moved if moved.mask is None else replace(moved, mask=moved.mask.bool())

    def split(self, size: int) -> tuple["TextCondition", ...]:
        """Parts of `size` rows; the last may have fewer."""
        return tuple(self[start : start + size] for start in range(0, len(self), size))

    def chunk(self, num: int) -> tuple["TextCondition", ...]:
        """`num` parts, as `Tensor.chunk` makes them."""
        return self.split(-(-len(self) // num))

    @staticmethod
    def cat(parts: list["TextCondition"]) -> "TextCondition":
        """One batch of all parts; either all have pooled embeddings or none has.

        Parts of other lengths are filled up with zeros that do not count.
        """
        pooled = [part.pooled for part in parts if part.pooled is not None]
        assert len(pooled) in (0, len(parts))
        longest = max(part.hidden.shape[1] for part in parts)
        masks = None
        if any(part.mask is not None or part.hidden.shape[1] < longest for part in parts):
            masks = torch.cat([_filled(part._counted, longest) for part in parts])
        hidden = torch.cat([_filled(part.hidden, longest) for part in parts])
        return TextCondition(hidden, torch.cat(pooled) if pooled else None, masks)

    @property
    def _counted(self) -> Tensor:
        """The mask, also where all counts."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.hidden.shape[:2], dtype=torch.bool, device=self.hidden.device)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "TextCondition":
        pooled, mask = (None if part is None else change(part) for part in (self.pooled, self.mask))
        return TextCondition(change(self.hidden), pooled, mask)


def _filled(rows: Tensor, length: int) -> Tensor:
    """rows (B, L, ...) -> (B, length, ...), zeros at the end."""
    missing = length - rows.shape[1]
    if not missing:
        return rows
    return torch.cat([rows, rows.new_zeros(len(rows), missing, *rows.shape[2:])], dim=1)


Condition = Tensor | TextCondition


def refuse_mask(cond: TextCondition) -> None:
    """DisBackError for prompts with a mask, of a model that would attend to what fills them up."""
    if cond.mask is not None:
        raise DisBackError(
            "this model takes no mask, and these prompts have one: they were encoded for another "
            "model, or differ in length (its own encoder makes all of one length)"
        )


def class_ids(labels: Tensor, num_classes: int) -> Tensor:
    """Ids (B,) or one-hot rows (B, num_classes) -> ids (B,) int64.

    Raises DisBackError for any other shape, for an id out of range and for a row that is not
    one-hot; an all-zero row too, since no id says "no class".
    """
    if num_classes == 0:
        raise DisBackError("this model takes no class labels: leave them out")
    if labels.ndim == 1 and not labels.is_floating_point():
        on_cpu = labels.device.type == "cpu"  # elsewhere the check would wait for the device
        if (
            on_cpu
            and labels.numel()
            and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes
        ):
            raise DisBackError(
                f"labels reach from {int(labels.min())} to {int(labels.max())}, but the model has "
                f"{num_classes} classes: 0 to {num_classes - 1}"
            )
        return labels.long()
    if labels.ndim == 2 and labels.shape[1] == num_classes:
        ids = labels.argmax(1)
        if labels.device.type == "cpu" and not torch.equal(
            one_hot(ids, num_classes).to(labels), labels
        ):
            raise DisBackError("labels of two dimensions must be one-hot rows: a single 1, else 0")
        return ids
    raise DisBackError(
        f"labels must be ids (B,) of an integer dtype or one-hot rows (B, {num_classes}), not "
        f"{labels.dtype} of shape {tuple(labels.shape)}"
    )


def one_hot_labels(labels: Tensor | None, num_classes: int, num: int, like: Tensor) -> Tensor:
    """Ids (B,) or rows (B, num_classes) -> rows (num, num_classes) in the dtype of `like`.

    None gives zeros, "no class" for models trained with label dropout. Rows pass as they are: a
    mixture of classes or an all-zero row is a valid input of such a model.
    """
    if labels is None:
        return torch.zeros(num, num_classes, dtype=like.dtype, device=like.device)
    if labels.ndim == 2 and labels.shape[1] == num_classes != 0:
        return labels.to(like)
    return one_hot(class_ids(labels, num_classes), num_classes).to(like)


class GuidedNetwork(nn.Module):
    """network(x, c, cond) pushed from its answer to the negative prompt: u + scale (c - u).

    x0, eps and v are affine in one another with the same coefficients, so it does not matter in
    which form the answers are. negative: one encoded prompt. At scale 1 it is not asked for.
    """

    negative_hidden: Tensor
    negative_pooled: Tensor | None
    negative_mask: Tensor | None

    def __init__(self, network: nn.Module, negative: TextCondition, scale: float) -> None:
        super().__init__()
        if not scale >= 1:
            raise ConfigError(f"guidance_scale must be at least 1 (no guidance), not {scale}")
        self.network, self.scale = network, float(scale)
        # no part of the weights: two models differ by what they learned, not by how they are asked
        self.register_buffer("negative_hidden", negative.hidden, persistent=False)
        self.register_buffer("negative_pooled", negative.pooled, persistent=False)
        self.register_buffer("negative_mask", negative.mask, persistent=False)

    def forward(self, x: Tensor, c: Tensor, cond: TextCondition) -> Tensor:
        """x (B, *data), c (B,), cond of B prompts -> the guided prediction (B, *data)."""
        if self.scale == 1:
            return self.network(x, c, cond)
        negative = TextCondition(self.negative_hidden, self.negative_pooled, self.negative_mask)
        negative = negative[torch.zeros(len(x), dtype=torch.long, device=x.device)]
        both = TextCondition.cat([negative, cond.to(self.negative_hidden)])
        away, towards = self.network(torch.cat([x, x]), torch.cat([c, c]), both).chunk(2)
        return away + self.scale * (towards - away)


def without_guidance(module: Module) -> Module:
    """The module, which now answers to its condition alone: a student or a fake score."""
    for part in module.modules():
        if isinstance(part, GuidedNetwork):
            part.scale = 1.0
    return module
