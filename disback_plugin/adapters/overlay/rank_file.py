"""One safetensors file in a checkpoint with a few small tensors of every rank."""

from pathlib import Path

from torch import Tensor

from disback_plugin.distributed import gather, rank
from disback_plugin.errors import SessionError, count
from disback_plugin.files import read_tensors, write_tensors
from disback_plugin.tensors import under


def write(file: Path, states: list[dict[str, Tensor]]) -> None:
    """Write all ranks' tensors, in order of rank, from rank 0."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{number}/{name}": value
        for number, state in enumerate(states)
        for name, value in state.items()
    }
    write_tensors(file, tensors)


def read_own(file: Path) -> dict[str, Tensor]:
    """This rank's tensors, on every rank; SessionError where there were more or fewer ranks."""
    tensors = read_tensors(file)[0]
    num_saved = 1 + max(int(name.split("/")[0]) for name in tensors)
    num_ranks = len(gather(rank()))
    if num_saved != num_ranks:
        saved = count(num_saved, "process", "processes")
        raise SessionError(
            f"{file.parent} was made by {saved}, this run has {num_ranks}: resume "
            f"with as many, or remove {file} to resume in the trainer's own way"
        )
    return under(f"{rank()}/", tensors)
