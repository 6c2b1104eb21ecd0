"""Diff-Instruct resumed: it has no resume, its snapshots hold neither student nor optimizers.

One safetensors file beside the snapshots, replaced whole: student, fake score, averaged student,
both optimizers, every rank's random state, the place in the data, the session. Only with
`--disback`; the real score is not in it, a node comes back from the path.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from disback_plugin.adapters.overlay import Overlay, random_state
from disback_plugin.distributed import gather, on_main, rank
from disback_plugin.errors import SessionError
from disback_plugin.files import read_tensors, write_tensors
from disback_plugin.tensors import pack_optimizer, under, unpack_optimizer

FILE_NAME = "disback-state.safetensors"
VERSION = 1


class TrainingState:
    """The state file of one run; `settings` None, as without `--disback`: it does nothing."""

    def __init__(self, settings: dict[str, Any] | None, seed: int, batch_size: int) -> None:
        """Before the data is read. SessionError where the state is of another run's settings."""
        self._on = settings is not None
        self._num_processes = len(gather(None)) if self._on else 1
        self._fixed = {
            "format": VERSION,
            "--seed": seed,
            "--batch": batch_size,
            "number of processes": self._num_processes,
        }
        self._plain: dict[str, Any] = {}
        self._tensors: dict[str, Tensor] = {}
        if settings and settings["resume"] is not None:
            self._read(Path(settings["resume"]))

    def watch(
        self, run: Overlay, modules: Mapping[str, nn.Module], optimizers: Sequence[Optimizer]
    ) -> None:
        """What is saved and restored."""
        self._run, self._modules, self._optimizers = run, modules, optimizers

    def skip_seen(self, sampler: Iterable[int]) -> Iterable[int]:
        """The endless sampler from where the saved run was."""
        num_images = self._plain.get("num_images", 0) // self._num_processes
        return _From(sampler, num_images) if num_images else sampler

    def restore(self, num_images: int, tick: int, total_kimg: int) -> tuple[int, int]:
        """Load the saved state, random numbers last; returns the images seen and the next tick."""
        if not self._plain:
            return num_images, tick
        if self._plain["num_images"] >= total_kimg * 1000:
            raise SessionError(
                f"the state was saved after {self._plain['num_images']} images, the training of "
                f"{total_kimg} thousand is over: give a longer --duration"
            )
        for name, module in self._modules.items():
            module.load_state_dict(under(f"module/{name}/", self._tensors))
        for number, optimizer in enumerate(self._optimizers):
            plain = self._plain["optimizers"][number]
            unpack_optimizer(optimizer, under(f"optimizer/{number}/", self._tensors), plain)
        self._run.go_on(self._plain["session"])
        random_state.put_back(under(f"random/{rank()}/", self._tensors))
        self._tensors = {}
        return self._plain["num_images"], self._plain["tick"]

    def end_tick(
        self, folder: str | None, num_images: int, tick: int, done: bool, every: int | None
    ) -> None:
        """On every rank, at the end of a tick with a snapshot: write the state, on rank 0."""
        if not self._on or every is None or not (done or tick % every == 0):
            return
        tensors: dict[str, Tensor] = {}
        for name, module in self._modules.items():
            tensors |= _named(f"module/{name}", module.state_dict())
        packed = [pack_optimizer(optimizer) for optimizer in self._optimizers]
        for number, (own, _) in enumerate(packed):
            tensors |= _named(f"optimizer/{number}", own)
        for number, own in enumerate(gather(random_state.take())):
            tensors |= _named(f"random/{number}", own)
        assert self._run.session is not None
        plain = {
            **self._fixed,
            "num_images": num_images,
            "tick": tick + 1,
            "optimizers": [plain for _, plain in packed],
            "session": self._run.session.state_dict(),
        }
        file, metadata = Path(folder or "") / FILE_NAME, {"disback": json.dumps(plain)}
        on_main(
            lambda: write_tensors(file, tensors, metadata, seal=True), "saving the training state"
        )

    def _read(self, place: Path) -> None:
        file = place / FILE_NAME if place.is_dir() else place
        if not file.exists():
            raise SessionError(
                f"{place} has no {FILE_NAME}: it is written with every snapshot of a run with "
                "--disback; give that run's output folder"
            )
        self._tensors, metadata = read_tensors(file, SessionError, sealed=True)
        try:
            self._plain = json.loads(metadata["disback"])
        except (KeyError, json.JSONDecodeError) as error:
            raise SessionError(f"{file} is no training state of --disback: {error}") from None
        for name, now in self._fixed.items():
            saved = self._plain.get(name)
            if saved != now:
                raise SessionError(
                    f"{file} was made with {name} {saved}, now it is {now}: resume with {saved}"
                )


class _From(Iterable[int]):
    """An endless sampler without its first `num` places."""

    def __init__(self, sampler: Iterable[int], num: int) -> None:
        self._sampler, self._num = sampler, num

    def __iter__(self) -> Iterator[int]:
        return islice(self._sampler, self._num, None)


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}
