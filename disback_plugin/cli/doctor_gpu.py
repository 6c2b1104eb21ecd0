"""What `disback doctor` tries on the GPUs: a product, as the CPU computes it, and NCCL."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TOLERANCE = 1e-2  # of a product in bfloat16, of its largest entry


class Found(NamedTuple):
    """A line of the report; `broken`: something is there and does not work."""

    text: str
    broken: bool = False


def gpus() -> Iterator[Found]:
    """Driver, CUDA, every GPU, NCCL; where torch sees none, whether there is one all the same."""
    import torch

    driver = _driver()
    built = torch.version.cuda or torch.version.hip
    yield Found(f"torch {torch.__version__}, built for {f'CUDA {built}' if built else 'the CPU'}")
    if not torch.cuda.is_available():
        if driver is None:
            yield Found("GPU: none that torch can use; what needs one was not tried")
        else:
            why = "has no CUDA" if built is None else f"cannot use it with CUDA {built}"
            yield Found(f"GPU: {driver} is there, but this torch {why}: install another", True)
        return
    yield Found(f"driver: {driver or 'not told (no nvidia-smi)'}")
    for index in range(torch.cuda.device_count()):
        yield _gpu(index)
    yield _nccl()


def _driver() -> str | None:
    """Name and driver of the first GPU, as nvidia-smi tells; None where there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def _gpu(index: int) -> Found:
    import torch

    properties = torch.cuda.get_device_properties(index)
    name = f"GPU {index}: {properties.name}, {properties.major}.{properties.minor}"
    try:
        free, total = torch.cuda.mem_get_info(index)
        error = _product_error(torch.device("cuda", index))
    except RuntimeError as failure:  # a driver that does not fit, a GPU that has fallen off
        return Found(f"{name}: {str(failure).splitlines()[0]}", True)
    memory = f"{total / 2**30:.0f} GiB, {free / 2**30:.0f} free"
    if not error <= TOLERANCE:
        return Found(f"{name}, {memory}: a product in bfloat16 is {error:.1%} off the CPU's", True)
    return Found(f"{name}, {memory}, bfloat16 works")


def _product_error(device: "torch.device") -> float:  # type: ignore[name-defined] # noqa: F821
    """The largest error of a product in bfloat16 on `device`, over the largest entry."""
    import torch

    a, b = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
    expected = a @ b
    got = (a.to(device, torch.bfloat16) @ b.to(device, torch.bfloat16)).float().cpu()
    return float((got - expected).abs().max() / expected.abs().max())


def _nccl() -> Found:
    """A sum over one process: enough to see a NCCL that does not load or start."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_nccl_available()):
        return Found("NCCL: this torch has none; several GPUs cannot be used", True)
    version = ".".join(map(str, torch.cuda.nccl.version()))
    with tempfile.TemporaryDirectory() as folder:
        store = distributed.FileStore(str(Path(folder) / "store"), 1)
        try:
            distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
            ones = torch.ones(4, device="cuda")
            distributed.all_reduce(ones)
            total = float(ones.sum())
        except RuntimeError as failure:
            return Found(f"NCCL {version}: {str(failure).splitlines()[0]}", True)
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()
    return Found(f"NCCL {version}: works in one process", total != 4)
