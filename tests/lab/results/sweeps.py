"""Curves of a comparison by literal values: an evaluation every 10 steps of 9 passes."""

from disback_plugin.lab.results.curves import Curve, CurvePoint


def swept(arm: str, lr: float, seed: int, values: list[float], nodes: int | None = None) -> Curve:
    points = tuple(CurvePoint(10 * i, 0.5 * i, 90.0 * i, v) for i, v in enumerate(values))
    return Curve(
        arm=arm, seed=seed, metric="fd_pixel", points=points, student_lr=lr, num_nodes=nodes
    )


CURVES = [
    *(swept("fixed", 1e-3, seed, [8.0, 4.0, 2.0, 1.0, 0.9]) for seed in range(3)),
    *(swept("fixed", 2e-3, seed, [8.0, 3.0, 1.0, 0.9, 0.9]) for seed in range(3)),
    *(swept("adaptive", 1e-3, seed, [8.0, 1.0, 0.8, 0.7, 0.6], 4) for seed in range(2)),
    swept("adaptive", 1e-3, 2, [8.0, 7.0, 6.0, 5.0, 4.0], 2),
]
