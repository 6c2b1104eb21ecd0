"""The degradation path on disk: nodes from the teacher (node 0) to the initial student (node N)."""

from typing import TYPE_CHECKING

from disback_plugin.lazy_names import lazy_names

if TYPE_CHECKING:
    from disback_plugin.path.codecs import NodeCodec, get_codec, register_codec
    from disback_plugin.path.degradation_path import DegradationPath
    from disback_plugin.path.figures import measure_precision
    from disback_plugin.path.manifest import Manifest, NodeEntry, TeacherEntry
    from disback_plugin.path.precision import (
        NodePrecision,
        is_measured,
        reals,
        relative,
        square_sum,
        without_constants,
    )
    from disback_plugin.path.reference import TeacherReference
    from disback_plugin.path.rounding import cast, choose_rounding
    from disback_plugin.path.stored_node import StoredNode

__all__ = [
    "DegradationPath",
    "Manifest",
    "NodeCodec",
    "NodeEntry",
    "NodePrecision",
    "StoredNode",
    "TeacherEntry",
    "TeacherReference",
    "cast",
    "choose_rounding",
    "get_codec",
    "is_measured",
    "measure_precision",
    "reals",
    "register_codec",
    "relative",
    "square_sum",
    "without_constants",
]
# where each name lives; imported when first asked for: a manifest is read without torch
_HOMES = {
    **dict.fromkeys(("NodeCodec", "get_codec", "register_codec"), "codecs"),
    **dict.fromkeys(("Manifest", "NodeEntry", "TeacherEntry"), "manifest"),
    **dict.fromkeys(
        (
            *("NodePrecision", "is_measured", "reals", "relative"),
            *("square_sum", "without_constants"),
        ),
        "precision",
    ),
    "DegradationPath": "degradation_path",
    "TeacherReference": "reference",
    "StoredNode": "stored_node",
    "cast": "rounding",
    "choose_rounding": "rounding",
    "measure_precision": "figures",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
