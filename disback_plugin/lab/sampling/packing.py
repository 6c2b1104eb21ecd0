"""Finished images as they are handed on: a folder of PNG files, an `.npz`, or a zip."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.files import remove, sync, temp_for
from disback_plugin.lab.sampling.plan import AGAIN, FILE, Form, Samples, parse_samples, read_samples
from disback_plugin.lab.sampling.store import ImageStore, image_name
from disback_plugin.sealed import damage_of, seal, unseal, write_sealed

_DATE = (1980, 1, 1, 0, 0, 0)  # in a zip: the same images make the same file


def form_of(out: Path) -> Form:
    """What a name asks for."""
    return "npz" if out.suffix == ".npz" else "zip" if out.suffix == ".zip" else "png"


def record_of(out: Path) -> Path:
    """Where what was sampled is said: in the folder, beside the `.npz`; in a zip its own name."""
    return out / FILE if form_of(out) == "png" else out.with_suffix(".json")


def find_samples(out: Path) -> Samples | None:
    """What the finished images at `out` say of themselves; None where there are none.

    Raises DataError for something else that is there.
    """
    form = form_of(out)
    if not os.path.lexists(out):
        if form == "npz" and os.path.lexists(record_of(out)):
            read_samples(record_of(out))  # written before its images, or no file of ours
        return None
    if form == "zip":
        return _in_zip(out)
    if not record_of(out).is_file():
        if form == "png" and out.is_dir() and not any(out.iterdir()):
            return None
        raise DataError(f"{out} is there already, and not by `disback sample`: give another --out")
    return read_samples(record_of(out))


def _in_zip(out: Path) -> Samples:
    try:
        with damage_of(out, DataError, AGAIN), zipfile.ZipFile(out) as archive:
            data = unseal(json.loads(archive.read(FILE)), out)
    except zipfile.BadZipFile as problem:
        raise DataError(f"{out} is there already, and no whole zip ({problem}): {AGAIN}") from None
    return parse_samples(data, f"{FILE} in {out}")


def pack(store: ImageStore, samples: Samples, out: Path) -> None:
    """Make of the store's images what `out` names, whole or not at all."""
    _PACKERS[samples.form](store, samples, out)
    sync(out.parent)


def _as_folder(store: ImageStore, samples: Samples, out: Path) -> None:
    write_sealed(store.folder / FILE, _plain(samples))
    for file in store.folder.iterdir():
        sync(file)
    sync(store.folder)
    os.replace(store.folder, out)


def _as_npz(store: ImageStore, samples: Samples, out: Path) -> None:
    """`arr_0`, bytes (N, H, W, C), written image by image: memory does not grow with N."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (samples.count, *samples.shape)}

    def write(archive: zipfile.ZipFile) -> None:
        with archive.open(zipfile.ZipInfo("arr_0.npy", _DATE), "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for seed in samples.seeds.all:
                stream.write(store.read(seed).tobytes())

    write_sealed(record_of(out), _plain(samples))  # alone it is of no harm, images alone would be
    _written(out, write)


def _as_zip(store: ImageStore, samples: Samples, out: Path) -> None:
    """Stored, not compressed again: a PNG is."""

    def write(archive: zipfile.ZipFile) -> None:
        for seed in samples.seeds.all:
            name = image_name(seed)
            archive.writestr(zipfile.ZipInfo(name, _DATE), (store.folder / name).read_bytes())
        record = json.dumps(seal(_plain(samples)), indent=1) + "\n"
        archive.writestr(zipfile.ZipInfo(FILE, _DATE), record)

    _written(out, write)


_PACKERS: dict[Form, Callable[[ImageStore, Samples, Path], None]] = {
    "png": _as_folder,
    "npz": _as_npz,
    "zip": _as_zip,
}


def _written(out: Path, write: Callable[[zipfile.ZipFile], None]) -> None:
    temp = temp_for(out)
    try:
        with zipfile.ZipFile(temp, "w", zipfile.ZIP_STORED) as archive:
            write(archive)
        sync(temp)
        os.replace(temp, out)
    finally:
        remove(temp)


def _plain(samples: Samples) -> dict[str, Any]:
    return samples.model_dump(mode="json")
