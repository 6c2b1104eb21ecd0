"""What `disback eval` adds to its network: time an image, and memory for 50,000 images.

    python benchmarks/evaluation.py time      # against Inception at its size, random weights
    python benchmarks/evaluation.py memory    # features of 2,048 numbers, without a network

Time is compared twice. CPU: seconds of all threads, so that other work on the machine does not
count; images are decoded and resized by threads beside the network's, so with cores to spare it is
not what a user waits for. Waited: how much longer all took than the network alone, by the clock.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from disback_plugin.lab.evaluation.measuring import Workplace, rows_of
from disback_plugin.lab.evaluation.networks import Given
from disback_plugin.lab.evaluation.protocol import Pixels
from disback_plugin.lab.evaluation.samples import open_samples
from disback_plugin.lab.evaluation.statistics import fit_stream
from disback_plugin.lab.metrics import frechet_between, kernel_distance, precision_recall

NUM_IMAGES, WIDTH = 50_000, 2048
CPU = torch.device("cpu")


def measure_time(num: int) -> None:
    """Decode, resize, store and statistics, over the network's own time."""
    from torch.nn.functional import interpolate
    from torchvision.models import inception_v3

    net = inception_v3(weights=None, init_weights=False).eval()
    net.fc = torch.nn.Identity()
    torch.set_num_threads(1)
    spent, took = 0.0, 0.0

    def features(images: Tensor) -> Tensor:
        nonlocal spent, took
        clock, start = time.perf_counter(), time.thread_time()  # readers work meanwhile
        x = images.float()
        if x.shape[-1] != 299:  # part of the real network
            x = interpolate(x, size=(299, 299), mode="bilinear")
        found = net(x / 128 - 1)
        spent += time.thread_time() - start
        took += time.perf_counter() - clock
        return found

    network = Given("inception of random weights", None, features)
    clean = Pixels(resize="clean", crop="square", size=512)
    for name, size, pixels, packed in (
        ("64 x 64, PNG, unresized", 64, Pixels(resize="inside"), False),
        ("512 x 512, PNG, clean-fid's resize", 512, clean, False),
        ("512 x 512, .npz, clean-fid's resize", 512, clean, True),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = _pictures(Path(folder) / "images", num, size)
            images = open_samples(_packed(path) if packed else path)
            place = Workplace(folder=Path(folder) / "work", device=CPU)
            spent, took = 0.0, 0.0
            clock, start = time.perf_counter(), time.process_time()
            store = place.measure("samples", images, pixels, network, network.layers)
            fit, _ = fit_stream(store.pieces("pool"), CPU)
            waited = time.perf_counter() - clock - took
            own = time.process_time() - start - spent
            start = time.process_time()
            frechet_between(fit, fit)
            once = time.process_time() - start
        each, theirs = own / num, spent / num
        share = (each + once / NUM_IMAGES) / theirs
        waits = waited / took + once / NUM_IMAGES / (took / num)
        print(
            f"{name}: network {1e3 * theirs:.1f} ms an image, eval's own {1e3 * each:.2f} ms and "
            f"{once:.1f} s once: {share:.1%} of the network's CPU time; waited for "
            f"{1e3 * waited / num:.2f} ms an image beside {1e3 * took / num:.1f}: {waits:.1%}",
            flush=True,
        )


def _pictures(folder: Path, num: int, size: int) -> Path:
    """Smooth colours with some noise: as large as PNG files of photographs are."""
    folder.mkdir()
    draws = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    for number in range(num):
        waves = [np.sin(7 * x * draws.random() + 5 * y + k) for k in range(3)]
        pixels = 127 + 100 * np.stack(waves, -1) + draws.normal(0, 6, (size, size, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06d}.png")
    return folder


def _packed(folder: Path) -> Path:
    """The same pictures in one .npz."""
    arrays = [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]
    np.savez(folder.with_suffix(".npz"), arr_0=np.stack(arrays))
    return folder.with_suffix(".npz")


def measure_memory(num: int) -> None:
    """Peak memory beyond what is there before, number by number."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "s.npz", arr_0=np.zeros((num, 8, 8, 3), np.uint8))
        images = open_samples(Path(folder) / "s.npz")
        draws = torch.Generator().manual_seed(0)
        network = Given("noise", None, lambda x: torch.randn(len(x), WIDTH, generator=draws).abs())
        place = Workplace(folder=Path(folder) / "work", device=CPU)
        before = _peak()
        store = place.measure("samples", images, Pixels(resize="inside"), network, network.layers)
        print(f"features: {_peak() - before:.0f} MiB", flush=True)
        fit, _ = fit_stream(store.pieces("pool"), CPU)
        print(f"and statistics: {_peak() - before:.0f} MiB", flush=True)
        print(f"and FID {frechet_between(fit, fit):.3g}: {_peak() - before:.0f} MiB", flush=True)
        whole, real = rows_of(store, "pool"), rows_of(store, "pool", np.arange(min(num, 10_000)))
        kernel_distance(whole, real, num_subsets=5)
        print(f"and KID: {_peak() - before:.0f} MiB", flush=True)
        # the memory beyond the features depends on their number, the time on their width
        precision_recall(whole[:, :64].contiguous(), real[:, :64].contiguous())
        print(f"and precision, recall: {_peak() - before:.0f} MiB", flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["time", "memory"])
    parser.add_argument("--num", type=int)
    args = parser.parse_args()
    if args.what == "time":
        measure_time(args.num or 100)
    else:
        measure_memory(args.num or NUM_IMAGES)
