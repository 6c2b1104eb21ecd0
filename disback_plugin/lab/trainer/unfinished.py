"""A walk that does not end within its run: the teacher never has its turn. Allowed, but told."""

from disback_plugin.config import RecordConfig
from disback_plugin.schedule import Schedule


def unfinished(arm: str, record: RecordConfig, schedule: Schedule, num_steps: int) -> list[str]:
    """A line where a node may still answer at the last of `num_steps`; for the largest path."""
    num_nodes, left = len(record.node_steps), num_steps - record.num_steps
    node = schedule.node_at(left - 1, num_nodes)
    if node == 0:
        return []
    return [
        f"arm {arm}: the way back takes up to {schedule.num_steps(num_nodes)} steps, but"
        f" distill.num_steps={num_steps} leaves {left} after {record.num_steps} of recording: node"
        f" {node} may still answer at the end, the teacher never again. Train longer, or shorten"
        " disback.schedule"
    ]
