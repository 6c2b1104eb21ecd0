"""`disback sample`: the images of a range of seeds, by one process or several, resumed at will."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from disback_plugin.config_base import parse_settings
from disback_plugin.distributed import is_main, on_every, on_main, rank
from disback_plugin.errors import DataError
from disback_plugin.files import remove
from disback_plugin.lab.sampling.grid import NUM_TILES, grid_file, write_grid
from disback_plugin.lab.sampling.packing import find_samples, form_of, pack
from disback_plugin.lab.sampling.plan import Plan, Samples, difference
from disback_plugin.lab.sampling.sampler import Sampler
from disback_plugin.lab.sampling.store import ImageStore, digest_of_all
from disback_plugin.lab.trainer.run_folder import locked
from disback_plugin.sealed import read_sealed, write_sealed

PLAN = "plan.json"
_OTHERS = "delete it, or give another --out"


def sample(sampler: Sampler, out: Path, batch_size: int, grid: int = NUM_TILES) -> Samples:
    """Make what is missing of the plan's images, and of all of them what `out` names.

    out: `NAME.npz`, `NAME.zip`, or a folder of PNG files. Until all are there they lie in
    `OUT.part/`, from which the next call goes on. Raises DataError where either is of other images,
    RunError where another process writes them.
    """
    out, plan = out.absolute(), sampler.plan
    part = out.with_name(f"{out.name}.part")
    finished = on_main(lambda: _finished(out, part, plan), f"looking at {out}")
    if finished is not None:
        return finished
    with locked(part):
        folder = part / "images"
        on_main(lambda: _begin(part, folder, plan), f"opening {part}")
        digests = _make_missing(sampler, folder, batch_size)

        def finish() -> Samples:
            made_with = _made_with(sampler, batch_size)
            return _finish(plan, ImageStore(folder, plan.shape), digests, out, made_with, grid)

        samples = on_main(finish, f"writing {out}")
        on_main(lambda: remove(part), f"removing {part}")
    return samples


def _finished(out: Path, part: Path, plan: Plan) -> Samples | None:
    """What is at `out`, if that is all; None where it is to be made."""
    samples = find_samples(out)
    if samples is None:
        return None
    if other := difference(samples, plan):
        raise DataError(f"{out} holds other images ({other}): {_OTHERS}")
    remove(part)  # of a process that was killed as it ended
    return samples


def _begin(part: Path, folder: Path, plan: Plan) -> None:
    if (part / PLAN).is_file():
        said = read_sealed(part / PLAN, DataError, _OTHERS)
        if other := difference(parse_settings(Plan, said, str(part / PLAN)), plan):
            raise DataError(f"{part} holds other images, unfinished ({other}): {_OTHERS}")
    write_sealed(part / PLAN, plan.model_dump(mode="json"))
    folder.mkdir(exist_ok=True)


def _make_missing(sampler: Sampler, folder: Path, size: int) -> dict[int, str]:
    """Every image's digest, those of the other processes too."""
    seeds = sampler.plan.seeds.all
    with ImageStore(folder, sampler.plan.shape) as store:
        finished = on_main(lambda: store.finished(seeds), f"looking through {folder}")
        missing = [seed for seed in seeds if seed not in finished]
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        own = batches[rank() :: sampler.processes]
        shares = on_every(lambda: _make(sampler, store, own, size, len(finished)), "sampling")
    for share in shares:
        finished |= share
    return finished


def _make(
    sampler: Sampler, store: ImageStore, batches: Sequence[Sequence[int]], size: int, before: int
) -> dict[int, str]:
    from tqdm import tqdm

    hidden = not (is_main() and sys.stderr.isatty())
    with tqdm(total=sampler.plan.num_images, initial=before, unit="image", disable=hidden) as bar:
        for seeds, images in sampler.images(batches, size):
            for seed, image in zip(seeds, images, strict=True):
                store.put(seed, image)
            bar.update(min(len(seeds) * sampler.processes, bar.total - bar.n))
    return store.digests()


def _finish(
    plan: Plan,
    store: ImageStore,
    digests: dict[int, str],
    out: Path,
    made_with: dict[str, Any],
    grid: int,
) -> Samples:
    assert len(digests) == plan.num_images
    samples = Samples(
        **dict(plan),
        form=form_of(out),
        count=len(digests),
        images_sha256=digest_of_all(digests),
        made_with=made_with,
    )
    if grid:
        write_grid([store.read(seed) for seed in plan.seeds.all[:grid]], grid_file(out))
    pack(store, samples, out)
    return samples


def _made_with(sampler: Sampler, batch_size: int) -> dict[str, Any]:
    device = sampler.device
    return {
        "batch_size": batch_size,
        "processes": sampler.processes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **{name: version(name) for name in ("disback_plugin", "torch")},
    }
