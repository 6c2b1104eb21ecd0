"""What a path loses in bfloat16: in its weights, and in what the network answers.

    python experiments/precision/measure.py [--out experiments/precision] [--only mlp] [--quick]

Trains each teacher, records paths at three learning rates, and asks teacher, node and installed
node on the student's samples at its training noise. Writes results.json and results.md.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean as mean

import torch
from torch import Tensor

from disback_plugin import DegradationPath
from disback_plugin.diffusion import Denoiser, diffuse
from disback_plugin.lab.config.experiment import ExperimentConfig, load_config
from disback_plugin.lab.noise import generator
from disback_plugin.lab.trainer.batches import evaluation_labels
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.loop import Distillation
from disback_plugin.lab.trainer.roles import attach, make_accelerator, make_networks, make_sampler
from disback_plugin.lab.trainer.teacher import TeacherJob
from disback_plugin.path import cast, get_codec

EXPERIMENTS = Path(__file__).parents[1]
SHORT = ["teacher.training.num_steps=400", "teacher.training.batch_size=64"]
SONG = "{kind: song-unet, channels: 32, multipliers: [1, 2], num_blocks: 1, attn_resolutions: [4]}"
NETWORKS: dict[str, tuple[str, list[str]]] = {
    "mlp": ("gaussians/near.yaml", []),
    "eps-mlp": ("digits/ddpm.yaml", []),
    "unet-16": ("digits/edm.yaml", SHORT),
    "song-unet": ("digits/edm.yaml", [f"teacher.network={SONG}", *SHORT]),
}
RATES = (5e-7, 1e-5, 1e-4)
STEPS = (10, 50, 200)
NUM_SAMPLES = 256
NUM_DRAWS = 2  # of stochastic rounding
BF16 = torch.bfloat16
COLUMNS = {
    "differ": "weights that still differ",
    "weights_nearest": "weights: nearest",
    "weights_stochastic": "stochastic",
    "along_nearest": "along the change: nearest",
    "along_stochastic": "stochastic",
    "nearest": "answers: nearest",
    "stochastic": "stochastic",
    "nearest_to_rounded": "to the rounded teacher: nearest",
    "stochastic_to_rounded": "stochastic",
    "arithmetic": "bf16 arithmetic: float32 teacher",
    "nearest_arithmetic": "nearest",
    "stochastic_arithmetic": "stochastic",
    "coarse_along_nearest": "teacher of bf16 values, along: nearest",
    "coarse_nearest": "answers: nearest",
    "coarse_stochastic": "stochastic",
    "bounded_bytes": "codec bounded: bytes / bf16",
    "bounded_weights": "weights",
    "bounded": "answers",
}
Weights = Mapping[str, Tensor]


def main() -> None:
    """Measure, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument(
        "--only", choices=NETWORKS, action="append", help="these anew, other rows stay"
    )
    parser.add_argument("--quick", action="store_true", help="teachers of 3 steps: a trial")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "results.json"
    rows = json.loads(file.read_text()) if args.only and file.exists() else []
    for name in args.only or NETWORKS:
        rows = [row for row in rows if row["network"] != name] + measure_network(name, args.quick)
    file.write_text(json.dumps(rows, indent=1) + "\n")
    (args.out / "results.md").write_text(table(rows))


def measure_network(name: str, quick: bool) -> list[dict[str, object]]:
    """A row a learning rate and number of recording steps."""
    file, changes = NETWORKS[name]
    record = f"disback.record={{num_steps: {STEPS[-1]}, at: {list(STEPS)}}}"
    changes = [*changes, record, f"distill.num_steps={STEPS[-1] + 1}"]
    if quick:
        changes.append("teacher.training.num_steps=3")
    teacher, rows = train_teacher(load_config(EXPERIMENTS / file, changes)), []
    for rate in RATES:
        config = load_config(EXPERIMENTS / file, [*changes, f"distill.record_lr={rate:.8f}"])
        with tempfile.TemporaryDirectory() as folder:
            path = record_path(config, teacher, Path(folder) / "path")
            questions = ask_at(config, teacher)
            for node in path:
                seen = compare(questions, teacher.state_dict(), path.read(node.index))
                row = {"network": name, "weights": questions.num_weights, "lr": rate}
                rows.append({**row, "steps": node.step, **seen})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def train_teacher(config: ExperimentConfig) -> Denoiser:
    """The experiment's teacher, frozen, its EMA weights after training."""
    experiment, training = Experiment(config, Path()), config.teacher.training
    assert training is not None
    job = TeacherJob(experiment, training, make_accelerator(config))
    for step in range(training.num_steps):
        job.train_step(step)
    teacher = config.teacher.make(experiment.problem)
    teacher.load_state_dict(job.weights())
    return teacher.requires_grad_(False).eval()


def record_path(config: ExperimentConfig, teacher: Denoiser, folder: Path) -> DegradationPath:
    """Stage 1 of the reference trainer."""
    accelerator, problem = make_accelerator(config), config.problem.load()
    networks = make_networks(config, copy.deepcopy(teacher), problem, 0, accelerator)
    sampler = make_sampler(config, problem, 0, accelerator)
    session = attach(config, "disback", networks, folder)
    loop = Distillation(networks, config, sampler, accelerator, session)
    for step in range(STEPS[-1]):
        loop.train_step(step)
    return DegradationPath.open(folder, teacher.state_dict())


@dataclass(frozen=True)
class Questions:
    """The student's samples at its training noise; what a network answers there, per sigma."""

    network: Denoiser
    x_t: Tensor
    sigma: Tensor
    labels: Tensor | None

    @property
    def num_weights(self) -> int:
        return sum(value.numel() for value in self.network.parameters())

    @torch.no_grad()
    def answers(self, weights: Weights, arithmetic: torch.dtype = torch.float32) -> Tensor:
        """D(x_t) / sigma with these weights, in float32 or under autocast."""
        self.network.load_state_dict({k: v.float() for k, v in weights.items()})
        with torch.autocast("cpu", dtype=BF16, enabled=arithmetic == BF16):
            x0 = self.network(self.x_t, self.sigma, self.labels).float()
        return x0 / self.sigma.view(-1, *[1] * (x0.dim() - 1))


def ask_at(config: ExperimentConfig, teacher: Denoiser) -> Questions:
    """On samples of the initial student."""
    problem = config.problem.load()
    student = config.student.make(teacher, problem.data_shape, 0)
    labels = evaluation_labels(NUM_SAMPLES, problem.num_classes)
    draw = partial(generator, 0, 0)
    z = torch.randn(
        NUM_SAMPLES, *config.student.latent_shape(problem.data_shape), generator=draw("z")
    )
    with torch.no_grad():
        x0 = student(z, labels)
    sigma = config.distill.sigmas.sample(NUM_SAMPLES, draw("sigma"))
    eps = torch.randn(x0.shape, generator=draw("eps"))
    return Questions(copy.deepcopy(teacher), diffuse(x0, sigma, eps), sigma, labels)


def compare(ask: Questions, teacher: Weights, node: Weights) -> dict[str, float]:
    """Errors relative to the node's own change: 0 is exact, at 1 nothing of the node is left."""
    rounded = {name: value.to(BF16) for name, value in teacher.items()}
    exact, before = ask.answers(node), ask.answers(teacher)
    change, step = exact - before, flat(node) - flat(teacher)
    rounded_before, low = ask.answers(rounded), partial(ask.answers, arithmetic=BF16)
    low_before = low(rounded)
    # the same change of a teacher that bfloat16 holds exactly
    coarse = {name: value.float() + node[name] - teacher[name] for name, value in rounded.items()}
    coarse_change = ask.answers(coarse) - rounded_before
    seen = {"arithmetic": ratio(low(node) - low(teacher) - change, change)}
    for kind, num in (("nearest", 1), ("stochastic", NUM_DRAWS)):
        draws = [rounding(node, kind, seed) for seed in range(num)]
        coarse_draws = [rounding(coarse, kind, seed) for seed in range(num)]
        answers = [ask.answers(one) for one in draws]
        seen |= {
            f"weights_{kind}": mean(ratio(flat(one) - flat(node), step) for one in draws),
            f"along_{kind}": mean(along(flat(one) - flat(rounded), step) for one in draws),
            kind: mean(ratio(one - exact, change) for one in answers),
            f"{kind}_to_rounded": mean(
                ratio(one - rounded_before - change, change) for one in answers
            ),
            f"{kind}_arithmetic": mean(
                ratio(low(one) - low_before - change, change) for one in draws
            ),
            f"coarse_along_{kind}": mean(
                along(flat(one) - flat(rounded), step) for one in coarse_draws
            ),
            f"coarse_{kind}": mean(
                ratio(ask.answers(one) - rounded_before - coarse_change, coarse_change)
                for one in coarse_draws
            ),
        }
    seen["differ"] = float((flat(rounding(node, "nearest")) != flat(rounded)).float().mean())
    codec = get_codec("bounded")
    stored = codec.encode(node, teacher)
    decoded = codec.decode(stored, teacher)
    return seen | {
        "bounded": ratio(ask.answers(decoded) - exact, change),
        "bounded_weights": ratio(flat(decoded) - flat(node), step),
        "bounded_bytes": sum(value.nbytes for value in stored.values()) / (2 * len(step)),
    }


def rounding(weights: Weights, kind: str, seed: int = 0) -> dict[str, Tensor]:
    """The weights as an installation casts them for a teacher in bfloat16."""
    return {name: cast(value, BF16, kind, f"{seed}/{name}") for name, value in weights.items()}


def flat(weights: Weights) -> Tensor:
    """All of them in one float32 vector, by name: a file has an order of its own."""
    return torch.cat([weights[name].float().reshape(-1) for name in sorted(weights)])


def ratio(error: Tensor, change: Tensor) -> float:
    """|error| / |change|, 2-norms."""
    return float(error.double().norm() / change.double().norm())


def along(installed: Tensor, change: Tensor) -> float:
    """The share of `change` that is installed, along it; 1 where errors are unrelated to it."""
    return float(installed.double() @ change.double() / change.double().square().sum())


def table(rows: list[dict[str, object]]) -> str:
    """Markdown, a line a node."""
    heads = ["network", "weights", "lr", "steps", *COLUMNS.values()]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        own = [f"{row[key]}" for key in ("network", "weights", "lr", "steps")]
        lines.append(f"| {' | '.join(own + [f'{row[key]:.2g}' for key in COLUMNS])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
