"""EDM's augmentation (Karras et al. 2022, Appendix F.2): images are moved, the network is told how.

Nine labels a network, as the published EDM ones have; Diff-Instruct trains its fake score so.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.errors import ConfigError

NUM_LABELS = 9
SCALE_STD, STRETCH_STD, SHIFT_STD = 0.2, 0.2, 0.125  # log2, log2, of the image's side
# the low-pass filter of the wavelet sym6, as PyWavelets gives it
_SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
_EDGE = len(_SYM6) // 4  # pixels that the filter spoils


def check_augment(network: nn.Module) -> None:
    """Raise ConfigError unless the network takes EDM's nine augmentation labels."""
    dims = [part.augment_dim for part in network.modules() if hasattr(part, "augment_dim")]
    if dims != [NUM_LABELS]:
        raise ConfigError(
            f"distill.augment is for EDM networks with {NUM_LABELS} augmentation labels (those of "
            "FFHQ, AFHQv2 and CIFAR-10), which this teacher does not take: set it to null"
        )


def draw_moves(num: int, probability: float, generator: torch.Generator) -> Tensor:
    """(num, 8): left-right and up-down flip, scale, angle, stretch and its axis, two shifts.

    Zero is no move. Every second image is mirrored; all else is done with `probability` each.
    """
    normal = torch.randn(num, 4, generator=generator)
    uniform = torch.rand(num, 4, generator=generator)
    done = (torch.rand(num, 5, generator=generator) < probability).float()
    turned = (torch.rand(num, generator=generator) < 0.5).float()  # stretched along another axis
    flips, angles = (uniform[:, :2] < 0.5).float(), math.pi * (2 * uniform[:, 2:] - 1)
    columns = [
        *(flips[:, 0], flips[:, 1] * done[:, 0], normal[:, 0] * done[:, 1]),
        *(angles[:, 0] * done[:, 2], normal[:, 1] * done[:, 3], angles[:, 1] * turned),
        *(normal[:, 2] * done[:, 4], normal[:, 3] * done[:, 4]),
    ]
    return torch.stack(columns, dim=1)


def labels_of(moves: Tensor) -> Tensor:
    """moves (B, 8) -> what the network is told of them, (B, 9)."""
    flip_x, flip_y, scale, angle, stretch, axis, shift_x, shift_y = moves.unbind(1)
    columns = [
        *(flip_x, flip_y, scale, angle.cos() - 1, angle.sin()),
        *(stretch * axis.cos(), stretch * axis.sin(), shift_x, shift_y),
    ]
    return torch.stack(columns, dim=1)


def augmented(images: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """images (B, C, H, W), moves (B, 8) on the CPU -> the moved images, their labels (B, 9)."""
    flips = moves.to(images.device)[:, :2, None, None, None] == 1
    images = torch.where(flips[:, 0], images.flip(3), images)
    images = torch.where(flips[:, 1], images.flip(2), images)
    return _warped(images, *_geometry(moves, images)), labels_of(moves).to(images)


def _geometry(moves: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """A (B, 2, 2) and t (B, 2): pixel p of the result, from the centre, is that at A p + t."""
    _, _, scale, angle, stretch, axis, shift_x, shift_y = moves.unbind(1)
    size, ratio = (SCALE_STD * scale).exp2(), (STRETCH_STD * stretch).exp2()
    stretched = _rotation(-axis) @ torch.diag_embed(torch.stack([1 / ratio, ratio], 1))
    linear = _rotation(angle) @ stretched @ _rotation(axis) / size[:, None, None]
    side = SHIFT_STD * torch.tensor([images.shape[3], images.shape[2]])
    shift = torch.stack([shift_x, shift_y], 1) * side
    return linear, -(linear @ shift[..., None])[..., 0]


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)


def _warped(images: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """The images at A p + t: mirrored at the edges, at twice the resolution, between sym6's."""
    height, width = images.shape[2:]
    before, after = _margins(height, width, linear, shift)
    padded = F.pad(images, [before[0], after[0], before[1], after[1]], mode="reflect")
    fine = _resample(padded, up=True)
    # in pixels of `fine`, which are half as large and whose grid begins half a pixel earlier
    moved = 2 * shift + torch.tensor(before) - torch.tensor(after)
    moved = moved - 0.5 + linear.sum(2) / 2
    wanted = torch.tensor([2 * (width + 2 * _EDGE), 2 * (height + 2 * _EDGE)])
    given = torch.tensor([fine.shape[3], fine.shape[2]])
    # affine_grid counts from -1 to 1 over each picture
    theta = torch.cat([linear * wanted, 2 * moved[..., None]], 2) / given[:, None]
    grid = F.affine_grid(
        theta.to(fine), [*images.shape[:2], int(wanted[1]), int(wanted[0])], align_corners=False
    )
    return _resample(F.grid_sample(fine, grid, align_corners=False), up=False)


def _margins(
    height: int, width: int, linear: Tensor, shift: Tensor
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(x, y) pixels to add before and after the picture, for all corners of all results."""
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * centre
    seen = (linear @ corners.T + shift[..., None]).transpose(1, 2).reshape(-1, 2)
    most, room = torch.tensor([width - 1, height - 1]), 2 * _EDGE - centre

    def added(reach: Tensor) -> tuple[int, int]:
        x, y = (reach + room).clamp(min=0).minimum(most).ceil().int().tolist()
        return x, y

    return added((-seen).amax(0)), added(seen.amax(0))


def _resample(images: Tensor, up: bool) -> Tensor:
    """Twice the resolution, or half of it without the _EDGE pixels that the filter spoils."""
    channels, taps = images.shape[1], torch.tensor(_SYM6).to(images)
    pad = (len(_SYM6) + 1) // 2 if up else (len(_SYM6) - 1) // 2
    for dim in (3, 2):
        if up:
            images = _with_zeros(images, dim)
        along = [1, 1, 1, 1]
        along[dim] = len(_SYM6)
        images = F.conv2d(
            images,
            (taps.flip(0) if up else taps).reshape(along).expand(channels, -1, -1, -1),
            groups=channels,
            padding=[pad if other == dim else 0 for other in (2, 3)],
            stride=[1 if up or other != dim else 2 for other in (2, 3)],
        )
        if not up:
            images = images.narrow(dim, _EDGE, images.shape[dim] - 2 * _EDGE)
    return images


def _with_zeros(images: Tensor, dim: int) -> Tensor:
    """A zero between any two rows or columns."""
    spread = torch.stack([images, torch.zeros_like(images)], dim + 1).flatten(dim, dim + 1)
    return spread.narrow(dim, 0, spread.shape[dim] - 1)
