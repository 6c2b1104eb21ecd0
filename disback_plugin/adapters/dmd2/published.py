"""Nodes recorded by the paper's published code, read into a path of ours.

Its folders are named `checkpoint_model_0NNNNN`; `pytorch_model_1.bin` in each (newer accelerate
writes `model_1.safetensors`) is a whole guidance model, whose fake score has the prefix
`fake_unet.`, under DDP `module.fake_unet.`. That code loads these names into a bare U-Net
non-strictly, which matches nothing; here the prefix is removed and every tensor must match.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from disback_plugin.errors import PathError
from disback_plugin.files import remove, sync, temp_for
from disback_plugin.foreign_weights import read_weights
from disback_plugin.path import DegradationPath, TeacherReference
from disback_plugin.path.reference import other_numbers
from disback_plugin.shards import weight_files
from disback_plugin.tensors import misfit

FILES = ("pytorch_model_1.bin", "model_1.safetensors")
STEM = "diffusion_pytorch_model"
PREFIXES = ("module.fake_unet.", "fake_unet.")
_FOLDER = re.compile(r"checkpoint_model_(\d+)")


def import_published(
    folders: Sequence[Path], teacher: Mapping[str, Tensor], out: Path, codec: str = "full"
) -> DegradationPath:
    """Make a complete path at `out` from recorded folders, in the order of their steps.

    Raises PathError for a folder of another name, without its file, or with tensors that are not
    exactly the teacher's by name, shape and kind of number. It is built beside `out` and renamed:
    what fails or is killed leaves nothing there.
    """
    if not folders:
        raise PathError("give at least one folder checkpoint_model_0NNNNN")
    by_step = {published_step(folder): folder for folder in folders}
    if len(by_step) < len(folders):
        raise PathError(f"two folders have the same step: {[str(folder) for folder in folders]}")
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise PathError(f"{out} is there already, and not empty: give another --out, or delete it")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = temp_for(out)  # what a kill leaves there, the next try clears
    try:
        path = DegradationPath.create(
            aside, teacher, codec=codec, method="published", recording={"at": sorted(by_step)}
        )
        for step in sorted(by_step):
            path.append(read_published(by_step[step], teacher), step)
        path.finish()
        os.replace(aside, out)
    except BaseException:
        remove(aside)
        raise
    sync(out.parent)
    return DegradationPath(out, path.manifest, TeacherReference.of(teacher))


def published_step(folder: Path) -> int:
    """The recording step in a folder's name."""
    found = _FOLDER.fullmatch(folder.name)
    if not found or int(found[1]) == 0:
        raise PathError(f"{folder} is not named checkpoint_model_0NNNNN: its step is not known")
    return int(found[1])


def read_published(folder: Path, teacher: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The fake score in one folder, with the teacher's tensor names."""
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise PathError(f"{folder} holds none of {', '.join(FILES)}")
    tensors = read_weights(file, PathError)
    node = {}
    for name, value in tensors.items():
        prefix = next((known for known in PREFIXES if name.startswith(known)), None)
        if prefix:
            node[name.removeprefix(prefix)] = value
    if not node:
        raise PathError(
            f"{file} has no tensor under {' or '.join(PREFIXES)}; its names begin with "
            f"{sorted({name.split('.')[0] for name in tensors})[:5]}"
        )
    if problem := misfit(teacher, node) or other_numbers(teacher, node):
        raise PathError(
            f"{file} does not hold the teacher's {len(teacher)} tensors ({problem}): is this the "
            "teacher that was recorded from?"
        )
    return node


def read_teacher(source: Path) -> dict[str, Tensor]:
    """The teacher's state dict: a weights file, or a diffusers folder (its `unet/`, if it has one).

    Of a sharded model the files that its index names are read together, and no other. Raises
    PathError, CheckpointError.
    """
    if source.is_file():
        return read_weights(source, PathError)
    folder = source / "unet" if (source / "unet").is_dir() else source
    if not any(folder.glob(f"{STEM}*.safetensors*")):
        raise PathError(
            f"{source} is neither a weights file nor a diffusers folder: no {STEM}*.safetensors in "
            f"{folder}"
        )

    def find(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    def there() -> list[str]:
        return sorted(file.name for file in folder.iterdir())

    files = weight_files(find, there, STEM)
    return {name: value for file in files for name, value in read_weights(file, PathError).items()}
