"""Files of networks: which, where the user put them, whether they are what they should be.

Nothing is fetched: a protocol says what to download, and a file counts only with its SHA-256.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from disback_plugin.errors import DataError
from disback_plugin.files import sha256
from disback_plugin.reading import require_regular

FOLDER = "DISBACK_NETWORKS"  # environment


@dataclass(frozen=True)
class NetworkFile:
    """name: in results; file: its name on disk; source: where its authors publish it.

    sha256: "" where none is published; the file's own is then kept with the result.
    """

    name: str
    file: str
    sha256: str
    source: str


INCEPTION = NetworkFile(
    name="inception-2015-12-05",
    file="inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    source="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
    "inception-2015-12-05.pt",
)
CLIP = NetworkFile(
    name="ViT-g-14 (laion2b_s12b_b42k)",
    file="open_clip_model.safetensors",
    sha256="",
    source="https://huggingface.co/laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
)


def find_file(wanted: NetworkFile, folder: Path | None) -> Path:
    """Where it lies, verified: in `folder`, else in $DISBACK_NETWORKS; DataError otherwise."""
    place = folder or (Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else None)
    digest = f"\n  SHA-256  {wanted.sha256}" if wanted.sha256 else ""
    get = (
        f"\n  file     {wanted.file}{digest}\n  from     {wanted.source}\n"
        f"Nothing is downloaded here. Put the file into a folder and name that: --networks FOLDER, "
        f"or ${FOLDER}"
    )
    if place is None:
        raise DataError(
            f"this protocol needs the network {wanted.name}, and no folder is given.{get}"
        )
    file = place / wanted.file
    if not os.path.lexists(file):
        raise DataError(f"this protocol needs the network {wanted.name}; {place} lacks it.{get}")
    require_regular(file, DataError)
    if wanted.sha256 and (seen := sha256(file)) != wanted.sha256:
        raise DataError(
            f"{file} is not {wanted.name}: its SHA-256 is {seen}, not the one below.{get}"
        )
    return file
