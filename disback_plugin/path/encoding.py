"""A node on its way to its file: tensor by tensor encoded, written, hashed and measured at once."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from disback_plugin.errors import PathError
from disback_plugin.path.behind import CheckStop
from disback_plugin.path.codecs import NodeCodec
from disback_plugin.path.figures import Figures
from disback_plugin.path.manifest import NodeEntry
from disback_plugin.path.node_file import NodeWriter, Seal, file_order
from disback_plugin.path.precision import NodePrecision

UNTRAINED = (
    "the fake score is not being trained. Usual causes: its learning rate warms up from 0 (keep "
    "the first node later), steps count parts of an accumulated update, a GradScaler skipped one"
)
PrecisionOf = Callable[[dict[str, Tensor]], NodePrecision]


def write_node(
    writer: NodeWriter,
    node: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    codec: NodeCodec,
    precision_of: PrecisionOf | None = None,
    check_stop: CheckStop = lambda: None,
) -> NodePrecision:
    """Write `node` as `codec` stores it; how far from `teacher` is what comes back from that.

    precision_of: what measures it instead, from all of it. Without it no tensor is held beyond the
    one that is being written.
    """
    figures, kept = Figures(), dict[str, Tensor]()
    for name in file_order(node):
        check_stop()
        base = {name: teacher[name]}
        stored = codec.encode({name: node[name].detach().cpu()}, base)
        writer.add(name, stored[name])
        decoded = codec.decode(stored, base)
        if precision_of is None:
            figures.add(decoded[name], teacher[name])
        else:
            kept.update(decoded)
    return figures.result() if precision_of is None else precision_of(kept)


def refuse_untrained(
    name: str, precision: NodePrecision, seal: Seal, before: Sequence[NodeEntry]
) -> None:
    """Raise PathError for a node that has diverged, or is the teacher or the last node still."""
    if not math.isfinite(precision.distance):
        raise PathError(f"{name} is not finite: the fake score diverged; lower its rate")
    if precision.distance == 0.0:
        raise PathError(f"{name} equals the teacher: {UNTRAINED}")
    if before and seal.sha256 == before[-1].sha256:
        raise PathError(f"{name} equals node {before[-1].index}: {UNTRAINED}")
