"""The weights' files of a part: which there are, and that an index and its files agree.

Headers alone are read here; the libraries read the tensors, once.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open

from disback_plugin.errors import CheckpointError
from disback_plugin.foreign_weights import first_bytes, translated
from disback_plugin.reading import cut, require_regular, shown

NUMBERS = ("F64", "F32", "F16", "BF16")  # of weights; the others need a scale, or are none
COUNTERS = (".position_ids", ".num_batches_tracked")  # whole numbers beside the weights
MAX_JSON = 1 << 26  # bytes; an index of 1000 tensors has some 100,000
Find = Callable[[str], Path | None]  # a file's name within the part -> where it lies here


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; CheckpointError naming the file."""
    require_regular(path, CheckpointError, MAX_JSON)
    with translated(f"{path} is not valid JSON"):
        data = json.loads(path.read_bytes())
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {shown(data)}, not settings by name")
    return data


def weight_files(
    find: Find, there: Callable[[], list[str]], stem: str, variant: str | None = None
) -> list[Path]:
    """`stem`'s files of the variant; CheckpointError unless they are whole and what they must be.

    there: lists the names beside, for the error where none is of that variant.
    """
    extra = f".{variant}" if variant else ""
    indices = [f"{stem}.safetensors.index{extra}.json", f"{stem}.safetensors{extra}.index.json"]
    single = f"{stem}{extra}.safetensors"
    for name in indices:
        if index := find(name):
            if stem == "model" and find(single):  # transformers reads this, diffusers the index
                raise CheckpointError(f"both {index} and {single} are there: move one away")
            return _shards(index, find)
    file = find(single)
    if file is None:
        raise CheckpointError(f"no file named {single}{_instead(there(), stem, variant)}")
    _header(file)
    return [file]


def _shards(index: Path, find: Find) -> list[Path]:
    """The files of an index. What it says of each tensor is so; files that it does not name do not
    count."""
    table = read_json(index).get("weight_map")
    if not (isinstance(table, dict) and table and all(isinstance(n, str) for n in table.values())):
        raise CheckpointError(f"{index} has no weight_map, from tensors to the names of files")
    held: dict[str, list[str]] = {}
    files: list[Path] = []
    for shard in sorted(set(table.values())):
        if shard != Path(shard).name:
            raise CheckpointError(f"{index} names {shown(shard)}, no file beside it")
        file = find(shard)
        if file is None:
            raise CheckpointError(f"{index} names {cut(shard)}, which is missing: fetch it")
        files.append(file)
        for name in _header(file):
            held.setdefault(name, []).append(shard)
    for name in sorted({*table, *held}):
        found = held.get(name, [])
        if found != [table.get(name)]:
            said = f"says that {cut(table[name])} holds" if name in table else "does not name"
            where = " and ".join(found) or "no file that it names"
            raise CheckpointError(f"{index} {said} {shown(name)}, which is in {cut(where)}")
    return files


def _header(file: Path) -> list[str]:
    """The tensors' names; CheckpointError for a file that is damaged, or holds no plain weights."""
    first_bytes(file)
    with (
        translated(f"{file} is no whole safetensors file"),
        safe_open(file, framework="pt") as stream,
    ):
        kinds = {name: stream.get_slice(name).get_dtype() for name in stream.keys()}  # noqa: SIM118
    for name, kind in kinds.items():
        if kind not in NUMBERS and not f".{name}".endswith(COUNTERS):
            raise CheckpointError(
                f"{file}: tensor {shown(name)} is {kind}: quantised weights are not read, give "
                f"those in {', '.join(NUMBERS)}"
            )
    return list(kinds)


def _instead(there: list[str], stem: str, variant: str | None) -> str:
    """What could have been meant: a variant that is there, none, or another format."""
    variants: Counter[str] = Counter()
    for name in there:
        inner = name.removeprefix(f"{stem}.").removesuffix(".safetensors").split("-")[0]
        if name.startswith(f"{stem}.") and name.endswith(".safetensors"):
            variants[inner if name != f"{stem}.safetensors" else ""] += 1
        elif name.startswith(f"{stem}.safetensors.index."):
            parts = name.removesuffix(".json").split(".index.")
            variants[parts[1] if len(parts) > 1 else ""] += 1
    if variants:
        ways = [f"variant={v}" if v else "no variant" for v in sorted(variants) if v != variant]
        return f"; there are weights of others: give {' or '.join(ways)}"
    if pickles := [name for name in there if name.endswith((".bin", ".ckpt", ".pt", ".msgpack"))]:
        return (
            f"; {cut(pickles[0])} is not read: save the pipeline anew, as safetensors (or give "
            "the revision of the repository that has them)"
        )
    return f"; there are {cut(', '.join(there) or 'no files')}"
