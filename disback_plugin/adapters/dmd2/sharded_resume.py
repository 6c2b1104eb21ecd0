"""Checkpoints of a host under FSDP: optimizers and schedules, each rank's own shards in one file.

DMD2 saves whole weights only there. This adds what an exact resume needs beside them; weights
are read back from DMD2's own files, shard by shard.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.adapters.overlay.side_file import OLDER
from disback_plugin.distributed import gather, on_every, on_main, rank
from disback_plugin.errors import SessionError
from disback_plugin.files import read_tensors, write_tensors
from disback_plugin.real_score.sharded import buffer_pieces, shard_pieces
from disback_plugin.sealed import read_sealed, write_sealed
from disback_plugin.tensors import misfit, pack_optimizer, under, unpack_optimizer

# file of the whole weights, module, optimizer, learning-rate schedule
_PARTS = (
    ("pytorch_model.bin", "feedforward_model", "optimizer_generator", "scheduler_generator"),
    ("pytorch_model_1.bin", "guidance_model", "optimizer_guidance", "scheduler_guidance"),
)


def save(trainer: Any) -> None:
    """On every rank, before the trainer saves: write this rank's shards into the same folder."""
    output = on_main(lambda: trainer.output_path, "looking for the output folder")
    folder = Path(output) / f"checkpoint_model_{trainer.step:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for _, _, optimizer, schedule in _PARTS:
        own, plain[optimizer] = pack_optimizer(getattr(trainer, optimizer).optimizer)
        plain[schedule] = getattr(trainer, schedule).state_dict()
        tensors |= {f"{optimizer}/{name}": value for name, value in own.items()}
    _, plain["tensors"] = write_tensors(_file(folder, "safetensors"), tensors)
    write_sealed(_file(folder, "json"), plain)
    gather(None)  # the trainer copies the folder when it has saved: all shards must be there


def load(trainer: Any, folder: Path) -> None:
    """On every rank: weights, optimizers and schedules as they were when `folder` was saved."""
    files = [_file(folder, ending) for ending in ("safetensors", "json")]
    missing = [file.name for file in files if not file.exists()]
    if any(gather(missing)):
        raise SessionError(
            f"{folder} has no {(missing or ['file of another rank'])[0]}: it was saved by another "
            "number of processes, without the repair exact-resume, or on disks that ranks do not "
            "share. --ckpt_only_path goes on from its weights"
        )
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}

    def read() -> None:
        plain.update(read_sealed(files[1], SessionError, OLDER))
        tensors.update(read_tensors(files[0], SessionError, digest=plain.get("tensors"))[0])

    on_every(read, f"reading {folder}")
    for file, module, optimizer, schedule in _PARTS:
        load_whole_weights(trainer.model.get_submodule(module), folder / file)
        own = under(f"{optimizer}/", tensors)
        unpack_optimizer(getattr(trainer, optimizer).optimizer, own, plain[optimizer])
        getattr(trainer, schedule).load_state_dict(plain[schedule])


@torch.no_grad()
def load_whole_weights(root: nn.Module, file: Path) -> None:
    """Copy this rank's part of whole weights into a sharded module, before or after any forward.

    Raises SessionError for a file that is cut short or not of this module.
    """
    try:
        state: dict[str, Tensor] = torch.load(file, "cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise SessionError(f"{file} cannot be read (a save cut short?): {error}") from None
    pieces = dict(shard_pieces(root))
    pieces |= {name: piece for name, piece in buffer_pieces(root) if name in state}
    if problem := misfit({name: piece.shape for name, piece in pieces.items()}, state):
        raise SessionError(f"{file} is not of this model: {problem}")
    for name, piece in pieces.items():
        piece.own.copy_(piece.of(state[name]))


def _file(folder: Path, ending: str) -> Path:
    return folder / f"exact_resume_rank_{rank():05d}.{ending}"
