"""Images in a folder, a zip (the layout of NVlabs/edm's dataset_tool) or an .npz, with labels."""

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.lab.data.optional import needed

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LABELS_FILE = "dataset.json"
NO_LABELS = "none"
MAX_CLASSES = 2**31


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Names of images, what opens image i (a file or an array), and labels (N,) int64 or None."""

    names: Sequence[str]
    labels: np.ndarray | None
    read: Callable[[int], Any]

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

    def rows(self, resolution: int | None) -> Iterator[tuple[np.ndarray, int | None]]:
        """RGB images (3, H, W) uint8 and labels; cropped to the centre square and resized (Lanczos)
        to `resolution`, or as they are. Raises DataError naming an image that cannot be read."""
        pil = needed("PIL.Image", "reading images")
        damaged = (OSError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error)
        for number, name in enumerate(self.names):
            try:
                content = self.read(number)
                array = isinstance(content, np.ndarray)
                with pil.fromarray(content) if array else pil.open(content) as image:
                    pixels = _prepare(pil, image, resolution)
            except DataError as error:
                raise DataError(f"{name}: {error}") from None
            except (*damaged, pil.DecompressionBombError) as error:
                raise DataError(f"{name} cannot be read as an image: {error}") from error
            label = None if self.labels is None else int(self.labels[number])
            yield pixels, label


def open_images(path: Path, labels: str = "auto") -> ImageSource:
    """The images at `path`, sorted by name; raises DataError where there are none.

    Labels come from dataset.json where there is one, else from the sub-folders (one class each, in
    the order of their names), or an .npz's array `labels`. `labels` may name another JSON file of
    that form, or be "none".
    """
    if path.suffix.lower() == ".npz":
        return _open_npz(path, labels)
    if zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        names = [name for name in archive.namelist() if not name.endswith("/")]

        def read(name: str) -> io.BytesIO:
            return io.BytesIO(archive.read(name))
    elif path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]

        def read(name: str) -> io.BytesIO:
            return io.BytesIO((path / name).read_bytes())
    else:
        raise DataError(f"{path} is no folder, .zip or .npz of images")
    images = sorted(filter(_is_image, names))
    if not images:
        raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)})")
    found = read(LABELS_FILE).read() if LABELS_FILE in names else None
    return ImageSource(
        names=[f"{path}/{name}" for name in images],
        labels=_labels(path, images, found, labels),
        read=lambda number: read(images[number]),
    )


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _labels(
    path: Path, images: Sequence[str], found: bytes | None, labels: str
) -> np.ndarray | None:
    if labels == NO_LABELS:
        return None
    if labels != "auto":
        return _read_labels(labels, images, _content(Path(labels)))
    if found is not None:
        return _read_labels(f"{path}/{LABELS_FILE}", images, found)
    folders = [name.split("/")[0] if "/" in name else "" for name in images]
    classes = sorted(set(folders))
    if len(classes) == 1:
        return None
    if "" in classes:
        raise DataError(
            f"{path} holds images itself ({images[folders.index('')]}) and in sub-folders "
            f"({classes[1]}): put all into class sub-folders, or pass --labels none"
        )
    return np.array([classes.index(folder) for folder in folders], dtype=np.int64)


def _content(labels: Path) -> bytes:
    try:
        return labels.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        found = "is a folder" if labels.is_dir() else "does not exist"
        raise DataError(
            f"the labels file {labels} {found}: give a JSON file, auto (from the source) or none"
        ) from None


def _read_labels(name: str, images: Sequence[str], content: bytes) -> np.ndarray | None:
    """`{"labels": [["00000/img00000000.png", 6], ...]}`, or null for none."""
    try:
        table = json.loads(content)["labels"]
        table = None if table is None else dict(table)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{name} is not of the form {{"labels": [[NAME, NUMBER], ...]}}: {error!r}'
        ) from None
    if table is None:
        return None
    missing = [image for image in images if image not in table]
    if missing:
        raise DataError(
            f"{name} has no label for {len(missing)} of {len(images)} images: {missing[0]}"
        )
    for image in images:
        if type(table[image]) is not int or not 0 <= table[image] < MAX_CLASSES:
            raise DataError(f"{name}: the label of {image} is {table[image]!r}, no class number")
    return np.array([table[image] for image in images], dtype=np.int64)


def _open_npz(path: Path, labels: str) -> ImageSource:
    """`images` (N, H, W, C) or (N, C, H, W) uint8, or `jpeg`, files end to end, with `offsets`
    (N+1,); `labels` (N,). `arr_0` and `arr_1` are OpenAI's names for images and labels."""
    if labels not in ("auto", NO_LABELS):
        raise DataError(f"{path} keeps its labels itself: leave --labels {labels} out")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    num, read = _npz_images(path, arrays)
    if num < 1:
        raise DataError(f"{path} holds no images")
    numbers = arrays.get("labels", arrays.get("arr_1")) if labels == "auto" else None
    if numbers is not None:
        counted = numbers.size == num and numbers.dtype.kind in "iu"
        if not counted or not 0 <= numbers.min() <= numbers.max() < MAX_CLASSES:
            raise DataError(
                f"{path}: labels are {numbers.dtype} {numbers.shape}, not {num} class numbers"
            )
        numbers = numbers.reshape(num).astype(np.int64)
    return ImageSource(
        names=[f"{path}: image {number}" for number in range(num)], labels=numbers, read=read
    )


def _npz_images(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, Callable[[int], Any]]:
    if {"jpeg", "offsets"} <= arrays.keys():
        data, offsets = arrays["jpeg"], arrays["offsets"]
        if data.dtype != np.uint8 or offsets.dtype.kind not in "iu" or offsets.ndim != 1:
            raise DataError(
                f"{path}: jpeg is {data.dtype} {data.shape} and offsets {offsets.dtype} "
                f"{offsets.shape}, not uint8 (bytes,) and whole numbers (N + 1,)"
            )
        return len(offsets) - 1, lambda i: io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())
    images = arrays.get("images", arrays.get("arr_0"))
    if images is None:
        raise DataError(
            f"{path} has the arrays {', '.join(arrays)}, but neither images nor jpeg and offsets"
        )
    if images.dtype != np.uint8 or images.ndim != 4 or not {1, 3} & {*images.shape[1::2]}:
        raise DataError(
            f"{path}: images are {images.dtype} {images.shape}, not uint8 (N, H, W, 3 or 1) or "
            "(N, 3 or 1, H, W)"
        )
    if images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.shape[3] == 1:  # grey, which Pillow wants without channels
        images = images[..., 0]
    return len(images), lambda i: np.ascontiguousarray(images[i])


def _prepare(pil: Any, image: Any, resolution: int | None) -> np.ndarray:
    """(3, H, W) uint8."""
    if image.mode.startswith(("I", "F")):  # converting would clip, not scale
        raise DataError(f"pixels of mode {image.mode!r}, not 8 bits a channel: convert the image")
    image = image.convert("RGB")
    if resolution is not None and image.size != (resolution, resolution):
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        image = image.resize((resolution, resolution), pil.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
