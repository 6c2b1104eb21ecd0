"""Which way is better, per metric name."""

HIGHER_IS_BETTER = frozenset({"class_coverage", "mode_coverage"})


def higher_is_better(metric: str) -> bool:
    """Coverages count up; every other metric is a distance, where lower is better."""
    return metric in HIGHER_IS_BETTER
