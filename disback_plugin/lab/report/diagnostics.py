"""What the trainer's probe logged at evaluations: mismatch, score gap, health of the nodes."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from disback_plugin.lab.report.curves import Arm, Plot, arm_of, metric_plot
from disback_plugin.lab.report.walk import walk_of
from disback_plugin.lab.results.curves import Curve, CurvePoint
from disback_plugin.lab.results.runs import Run

MISMATCH_CAPTION = (
    "Mismatch over training (paper, Fig. 4): denoising loss of the network in use as real score on "
    "the student's samples, above the least possible and in units of it; median over seeds. "
    "Dotted: the floor, the teacher on as many samples of the data."
)
GAP_CAPTION = (
    "Score gap over training: root mean square difference of fake and real score on the student's "
    "samples, as predictions of unit noise; median over seeds. This difference is what moves the "
    "student, but while recording, when it is held still and only the fake score learns."
)
HEALTH_CAPTION = (
    "Health of the nodes while they answer: direction (cosine) and size (dashed) of the pull on "
    "the student against the teacher's; median over seeds of disback. Cosines near 1: the node "
    "pulls as the teacher does, only weaker; below about 0.4: noise, record more lightly."
)


def mismatch_plot(runs: Sequence[Run]) -> Plot | None:
    """A line an arm, and the floor; None where no run has measured it."""
    logged = [probe.get("disback/mismatch_floor") for run in runs for probe in run.probes]
    floors = [floor for floor in logged if floor is not None]
    reference = (fmean(floors), "floor") if floors else None
    return metric_plot(
        [_probed(run, "disback/mismatch", above=0.0) for run in runs],
        "disback/mismatch",
        name="mismatch",
        title="Mismatch (excess loss)",
        caption=MISMATCH_CAPTION,
        reference=reference,
        shared=False,
        seeds=False,
    )


def gap_plot(runs: Sequence[Run]) -> Plot | None:
    """A line an arm; None where no run has measured it."""
    return metric_plot(
        [_probed(run, "disback/score_gap", above=0.0) for run in runs],
        "disback/score_gap",
        name="score_gap",
        title="Score gap (in units of the noise)",
        caption=GAP_CAPTION,
        shared=False,
        seeds=False,
    )


def health_plot(runs: Sequence[Run]) -> Plot | None:
    """Cosine and size of disback over the walk; None where no evaluation met a node."""
    arms = [_pull(runs, name, style) for name, style in (("cosine", ""), ("size", " dashed"))]
    found = [arm for arm in arms if arm is not None]
    if len(found) < len(arms):
        return None
    return Plot(
        name="health",
        title="The node's pull against the teacher's",
        caption=HEALTH_CAPTION,
        arms=found,
        log=False,
        reference=(1.0, "teacher"),
        walk=walk_of(runs),
        within=(0.0, 1.0),
    )


def _pull(runs: Sequence[Run], name: str, style: str) -> Arm | None:
    key = f"disback/health_{name}"
    ours = [_probed(run, key) for run in runs if run.arm == "disback"]
    measured = [run for run in ours if run.curve(key).finite.points]
    if not measured:
        return None
    arm = arm_of(measured, key, shared=False, seeds=False)
    return replace(arm, name=name, style=arm.style + style)


def _probed(run: Run, key: str, above: float | None = None) -> Run:
    """The run with one logged quantity as its only curve; what is not `above` is left out.

    What is not above 0 has no place on a log scale.
    """
    points = tuple(
        CurvePoint(probe["step"], probe["seconds"], probe["passes"], float(probe[key]))
        for probe in run.probes
        if probe.get(key) is not None and (above is None or probe[key] > above)
    )
    curve = Curve(arm=run.arm, seed=run.seed, metric=key, points=points)
    return replace(run, curves={key: curve} if points else {})
