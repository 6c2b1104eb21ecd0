"""Images in a folder, a zip (the layout of NVlabs/edm's dataset_tool) or an .npz, with labels."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from disback_plugin.errors import DataError, count
from disback_plugin.lab.data import file_order, image_pixels
from disback_plugin.lab.data.image_arrays import open_arrays
from disback_plugin.lab.data.image_files import kinds, open_files
from disback_plugin.lab.data.image_labels import TABLE, Labels, find_labels
from disback_plugin.lab.data.optional import needed
from disback_plugin.reading import cut, require_regular, told

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Names of images, what reads image i (a file or an array), and labels (N,) int64 or None.

    classes: their names, where they have some. decided: how images, their order and labels were
    found, for people. seen: what `rows` did to images that are not plain, and how often.
    """

    names: Sequence[str]
    labels: np.ndarray | None
    read: Callable[[int], bytes | np.ndarray]
    classes: Sequence[str] = ()
    decided: Sequence[str] = ()
    seen: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.names)

    def spread(self, num: int) -> "ImageSource":
        """`num` of the images, evenly spread over all: the first ones would be of one class."""
        if num >= len(self):
            return self
        index = [number * len(self) // num for number in range(num)]
        return replace(
            self,
            names=[self.names[i] for i in index],
            labels=None if self.labels is None else self.labels[index],
            read=lambda number: self.read(index[number]),
        )

    def sample(self, number: int) -> str:
        """Image `number` and its label, for people."""
        label = "no label"
        if self.labels is not None:
            label = f"label {self.labels[number]}"
            label += f" ({cut(self.classes[self.labels[number]], 60)})" if self.classes else ""
        return f"{cut(self.names[number], 200)} -> {label}"

    def remarks(self) -> list[str]:
        """What `rows` did to images that are not plain."""
        return image_pixels.remarks(self.seen)

    def rows(self, resolution: int | None) -> Iterator[tuple[np.ndarray, int | None]]:
        """RGB images (3, H, W) uint8 and labels; cropped to the centre square and resized (Lanczos)
        to `resolution`, or as they are. Raises DataError naming an image that cannot be read, or
        that has another size than the first."""
        pil, size = needed("PIL.Image", "reading images"), None
        for number, name in enumerate(self.names):
            try:
                pixels = image_pixels.read_pixels(pil, self.read(number), resolution, self.seen)
            except DataError as error:
                raise DataError(f"{cut(name)}: {error}") from None
            except Exception as error:  # damaged images raise nearly anything
                raise DataError(f"{cut(name)} cannot be read as an image: {told(error)}") from error
            own = "{2} x {1}".format(*pixels.shape)
            if own != (size := size or own):
                raise DataError(
                    f"{cut(name)} has {own} pixels, {cut(self.names[0])} {size}: give one "
                    "resolution for all (--resolution N)"
                )
            label = None if self.labels is None else int(self.labels[number])
            yield pixels, label


def open_images(path: Path, labels: str = "auto") -> ImageSource:
    """The images at `path`, in the order of their names; raises DataError where there are none.

    Labels come from dataset.json where there is one, else from the sub-folders (one class each, in
    the order of their names), or an .npz's array `labels`. `labels` may name another JSON file of
    that form, or be "none".
    """
    if path.suffix.lower() == ".npz" and not path.is_dir():
        num, read, found = open_arrays(path, labels)
        names = [f"{path}: image {number}" for number in range(num)]
        decided = [f"{path}: {count(num, 'image')}, in the order of the array"]
        return _source(names, read, found, decided)
    files = open_files(path)
    if files is None:
        if path.exists():
            require_regular(path, DataError)
        raise DataError(f"{path} is no folder, .zip or .npz of images")
    images = file_order.in_order([name for name in files.names if _is_image(name)])
    others = [n for n in files.names if not _is_image(n) and PurePosixPath(n).name.lower() != TABLE]
    left = [kinds(others)] if others else []
    left += [f"{files.hidden:,} hidden"] if files.hidden else []
    if not images:
        instead = f"; it has {', '.join(left)}" if left else ""
        raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)}){instead}")
    decided = [
        f"{path}: {count(len(images), 'image')} ({kinds(images)})"
        + (f"; not read: {', '.join(left)}" if left else ""),
        f"order: {file_order.said(images)}",
    ]
    return _source(
        [f"{path}/{name}" for name in images],
        lambda number: files.read(images[number]),
        find_labels(files, images, labels),
        decided,
    )


def _source(
    names: list[str],
    read: Callable[[int], bytes | np.ndarray],
    labels: Labels,
    decided: list[str],
) -> ImageSource:
    return ImageSource(
        names=names,
        labels=labels.numbers,
        read=read,
        classes=labels.classes,
        decided=[*decided, f"labels: {labels.said}"],
    )


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES
