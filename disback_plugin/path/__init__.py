"""The degradation path on disk: nodes from the teacher (node 0) to the initial student (node N)."""

from disback_plugin.path.codecs import NodeCodec, get_codec, register_codec
from disback_plugin.path.degradation_path import DegradationPath
from disback_plugin.path.manifest import Manifest, NodeEntry, TeacherEntry
from disback_plugin.path.precision import (
    NodePrecision,
    cast,
    is_measured,
    measure_precision,
    reals,
    relative,
    square_sum,
    without_constants,
)
from disback_plugin.path.reference import TeacherReference

__all__ = [
    "DegradationPath",
    "Manifest",
    "NodeCodec",
    "NodeEntry",
    "NodePrecision",
    "TeacherEntry",
    "TeacherReference",
    "cast",
    "get_codec",
    "is_measured",
    "measure_precision",
    "reals",
    "register_codec",
    "relative",
    "square_sum",
    "without_constants",
]
