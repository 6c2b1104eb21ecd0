"""From draws to images: the student on its device, pixels back on the host, work overlapped."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from disback_plugin.lab.problems import Conditioner, as_they_are
from disback_plugin.lab.sampling.draws import Draw
from disback_plugin.lab.sampling.store import Array


def to_bytes(images: Tensor) -> Tensor:
    """(B, C, H, W) in [-1, 1] -> (B, H, W, C) uint8, by the rule of EDM's generate.py."""
    return (images.float() * 127.5 + 128).clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class _OnItsWay:
    """Bytes that leave the device while it works on."""

    def __init__(self, pixels: Tensor) -> None:
        self._event = None
        self._host = pixels
        if pixels.is_cuda:
            self._host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
            self._host.copy_(pixels, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def arrived(self) -> Array:
        if self._event is not None:
            self._event.synchronize()
        return self._host.numpy()


@torch.inference_mode()
def make_images(
    generator: nn.Module,
    draws: Iterable[Draw],
    device: torch.device,
    condition: Conditioner = as_they_are,
    decoder: nn.Module | None = None,
) -> Iterator[tuple[Sequence[int], Array]]:
    """Seeds and their images (n, H, W, C), batch by batch; one batch is always under way.

    generator: (z, condition) -> x0, or latents for `decoder`.
    """
    before: tuple[Sequence[int], _OnItsWay] | None = None
    for draw in draws:
        z = draw.z.pin_memory() if device.type == "cuda" else draw.z
        made = generator(z.to(device, non_blocking=True), condition(draw.labels, device))
        pixels = to_bytes(made if decoder is None else decoder(made[: len(draw.seeds)]))
        sent = _OnItsWay(pixels.contiguous())
        if before is not None:
            yield before[0], before[1].arrived()[: len(before[0])]
        before = draw.seeds, sent
    if before is not None:
        yield before[0], before[1].arrived()[: len(before[0])]
