"""`disback path show --probe`: what each node of a run's path knows, and how it pulls."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from disback_plugin.config import AutoRecord
from disback_plugin.diffusion import Denoiser, diffuse
from disback_plugin.errors import RunError
from disback_plugin.lab.metrics import Health, Mismatch, mismatch_degree, node_health
from disback_plugin.lab.noise import generator
from disback_plugin.lab.results.run_file import RUN, read_run_file
from disback_plugin.lab.trainer.batches import evaluation_labels, evaluation_noise
from disback_plugin.lab.trainer.diagnostics import probe_levels
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.residuals import residual
from disback_plugin.lab.trainer.run_folder import CONFIG, read_config
from disback_plugin.measure import Start, TeacherPull
from disback_plugin.path import DegradationPath
from disback_plugin.recorded import parameters_checksum

NUM_SAMPLES = 2000
VERDICTS: dict[Start, str] = {
    "path": "record a path",
    "common": "record nothing, the pull is common",
    "known": "record nothing, the teacher knows them",
}


@dataclass(frozen=True)
class Probe:
    """One node on the samples of the student it was recorded for; the fake score at the last."""

    index: int
    mismatch: Mismatch
    health: Health


@dataclass(frozen=True)
class PathProbe:
    """The teacher's pull, at the noise levels of training, and every node from index 0 on.

    start: what automatic recording would make of the pull, by the run's settings or the defaults.
    """

    teacher: TeacherPull
    start: Start
    nodes: list[Probe]


@torch.no_grad()
def probe_path(folder: Path) -> PathProbe:
    """Probe the teacher (index 0) and every node of the path in OUT/runs/ARM-seedK/path.

    Raises RunError for a path that lies in no experiment's folder: its networks and its student
    are then unknown here. Cost: 4 passes over 2,000 samples a node and noise level, and one more.
    """
    run, out = folder.resolve().parent, folder.resolve().parent.parent.parent
    if not (run / RUN).is_file() or not (out / CONFIG).is_file():
        raise RunError(
            f"{folder} is not the path of a run of `disback run`: --probe needs that run's "
            "networks and its student"
        )
    seed = read_run_file(run).seed
    config = read_config(out)
    experiment = Experiment(config, out)
    problem, teacher = experiment.problem, experiment.teacher
    path = DegradationPath.open(folder, teacher.state_dict())
    student = config.student.make(teacher, problem.data_shape, seed)
    if path.student not in (None, parameters_checksum(student)):
        raise RunError(
            f"{folder} was not recorded for the initial student of its run (an earlier version "
            "could record in mid-run): there is nothing to probe it on"
        )
    shape = config.student.latent_shape(problem.data_shape)
    labels = evaluation_labels(NUM_SAMPLES, problem.num_classes)
    if labels is not None:  # every label in both halves, as the mismatch needs it
        labels = labels[torch.randperm(NUM_SAMPLES, generator=generator(0, 0, "probe/order"))]
    samples = student(evaluation_noise(seed, NUM_SAMPLES, shape), labels)
    nodes = [teacher, *(_node(teacher, path, index) for index in range(1, len(path) + 1))]
    levels = probe_levels(config)
    probes = [
        Probe(
            index,
            mismatch_degree(node, samples, levels, generator(0, 0, "probe"), labels),
            node_health(
                nodes[-1], node, teacher, samples, levels, generator(0, 0, "probe"), labels
            ),
        )
        for index, node in enumerate(nodes)
    ]
    sigma = config.distill.sigmas.sample(NUM_SAMPLES, generator(0, 0, "probe/sigma"))
    eps = torch.randn(samples.shape, generator=generator(0, 0, "probe/eps"))
    x0_hat = teacher(diffuse(samples, sigma, eps), sigma, labels)
    pull = TeacherPull.of(residual(x0_hat, samples, sigma), samples)
    auto = config.disback.record.auto or AutoRecord()
    return PathProbe(pull, pull.calls_for(auto), probes)


def probe_table(probe: PathProbe) -> str:
    """The teacher's pull; a line a node, three numbers each, from low to high noise."""
    levels = ", ".join(f"{sigma:.2g}" for sigma in probe.nodes[0].mismatch.sigmas)
    lines = [
        f"on {NUM_SAMPLES:,} samples of the initial student the teacher's loss is "
        f"{probe.teacher.loss:.3g}, and {probe.teacher.common:.0%} of its pull is one\n"
        f"shift and one scaling of them all: automatic recording would {VERDICTS[probe.start]}.\n"
        f"At sigma {levels}:",
        f"{'node':>4}  {'excess loss':>24}  {'cosine':>17}  {'size':>17}",
    ]
    for node in probe.nodes:
        excess = " ".join(f"{value:>7.3g}" for value in node.mismatch.excess)
        cosine = " ".join(f"{value:>5.2f}" for value in node.health.cosine)
        size = " ".join(f"{value:>5.2f}" for value in node.health.size)
        lines.append(f"{node.index:>4}  {excess:>24}  {cosine:>17}  {size:>17}")
    lines.append(
        "excess loss: denoising loss above the least possible, in units of that (Eq. 9 without "
        "units)\ncosine, size: the node's pull on the student against the teacher's, with the fake "
        "score at the last node; the last node itself does not pull\n"
        "how to read it: a path is worth walking where the teacher's loss is above 1 (below, it\n"
        "knows the samples), less than half of its pull is common to them all (else it is right\n"
        "as it is, and nodes damp it), and the excess loss falls by more than half over the nodes\n"
        "(else recording was too short). Cosines below about 0.4 are noise: record more lightly"
    )
    return "\n".join(lines)


def _node(teacher: Denoiser, path: DegradationPath, index: int) -> Denoiser:
    node = copy.deepcopy(teacher)
    path.load_into(node, index)
    return node
