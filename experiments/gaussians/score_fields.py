"""The paper's Fig. 9: both score fields of a gaussians experiment, from its checkpoints.

    python experiments/gaussians/score_fields.py runs/gaussians-far [--arm disback] [--seed 0]

Writes OUT/figures/score_fields.png, one row a checkpoint: left the teacher's score, which should
point towards the data (grey), right the fake score, which should point towards the student
(orange). The share of arrows that do so is printed and stands above each panel.
"""

import argparse
import copy
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor

from disback_plugin.diffusion import Denoiser, score
from disback_plugin.errors import RunError
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.run_folder import read_config, run_folder
from disback_plugin.tensors import load_weights

GRID = 21
DATA_COLOUR, STUDENT_COLOUR = "0.6", "#D55E00"


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="experiment folder")
    parser.add_argument("--arm", default="disback", choices=["disback", "fixed", "warm"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sigma", type=float, default=1.0, help="noise level of the fields")
    args = parser.parse_args()
    print(draw(args.out, args.arm, args.seed, args.sigma))


def draw(out: Path, arm: str, seed: int, sigma: float) -> Path:
    """Draw one row a checkpoint; returns the file."""
    config = read_config(out)
    experiment = Experiment(config, out)
    problem, teacher = experiment.problem, experiment.teacher
    folders = sorted((run_folder(out, arm, seed) / "checkpoints").glob("step_*"))
    if not folders:
        raise RunError(f"{run_folder(out, arm, seed)} has no checkpoint: run the experiment first")
    student = config.student.make(teacher, problem.data_shape, seed)
    fake_score = copy.deepcopy(teacher)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(500, 2, generator=generator)
    data, _ = problem.dataset.batch(500, generator)
    figure = Figure(figsize=(9, 4.2 * len(folders)), layout="constrained")
    rows = figure.subplots(len(folders), 2, squeeze=False)
    for folder, (left, right) in zip(folders, rows, strict=True):
        for module, name in ((student, "student"), (fake_score, "fake_score")):
            file = folder / f"{name}.safetensors"
            load_weights(module, load_file(file), str(file))
        with torch.no_grad():
            samples = student(latents)
        step = int(folder.name.removeprefix("step_"))
        for axes, network, target, name in (
            (left, teacher, data, "teacher"),
            (right, fake_score, samples, "fake score"),
        ):
            share = _panel(axes, network, data, samples, target, sigma)
            axes.set_title(f"step {step}: {name}, {share:.0%} towards its distribution")
            print(f"step {step:5d}  {name:<10}  {share:.0%} of arrows point towards it")
    file = out / "figures" / "score_fields.png"
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=100)
    return file


@torch.no_grad()
def _panel(
    axes: Axes, network: Denoiser, data: Tensor, samples: Tensor, target: Tensor, sigma: float
) -> float:
    """Arrows of the score at x_t on a grid; returns the share that points towards `target`."""
    points = _grid(torch.cat([data, samples]))
    x0 = network(points, torch.full((len(points),), sigma))
    arrows = score(x0, points, torch.full((len(points),), sigma))
    length = arrows.norm(dim=1, keepdim=True).clamp_min(1e-9)
    towards = target.mean(0) - points
    # outside the cloud itself, where "towards" has a meaning
    outside = towards.norm(dim=1) > target.sub(target.mean(0)).norm(dim=1).max()
    share = ((arrows * towards).sum(1) > 0)[outside].float().mean().item()
    axes.scatter(*data.T, s=3, color=DATA_COLOUR, label="data")
    axes.scatter(*samples.T, s=3, color=STUDENT_COLOUR, label="student")
    # direction by arrow, strength by colour: lengths span several orders of magnitude
    strength = length.squeeze(1).log10()
    axes.quiver(*points.T, *(arrows / length).T, strength, cmap="viridis", scale=32, width=0.004)
    axes.set_aspect("equal")
    axes.legend(loc="upper right", markerscale=4, fontsize=8)
    return share


def _grid(points: Tensor) -> Tensor:
    """Evenly spaced points over the box around `points`, a quarter wider."""
    low, high = points.min(0).values, points.max(0).values
    centre, half = (low + high) / 2, 0.625 * (high - low).clamp_min(1.0)
    axes = [
        torch.linspace(float(c - h), float(c + h), GRID) for c, h in zip(centre, half, strict=True)
    ]
    return torch.cartesian_prod(*axes)


if __name__ == "__main__":
    main()
