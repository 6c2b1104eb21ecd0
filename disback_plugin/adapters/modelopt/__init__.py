"""NVIDIA Model Optimizer (`nvidia-modelopt`, `modelopt.torch.fastgen`): a `DMDPipeline` by role."""

from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles, register_adapter
from disback_plugin.adapters.modelopt.beside import BesideTeacher
from disback_plugin.config import DisBackConfig, InstallationKind
from disback_plugin.errors import AdapterError
from disback_plugin.real_score import Installation

NEEDED = ("compute_student_loss", "_predict_x0")  # in which nodes beside the teacher answer


@register_adapter
class ModelOptAdapter(Adapter):
    """`DMDPipeline` and what derives from it, as it is: the four lines go into the loop around it.

    Nodes are installed in place. Beside a discriminator the teacher gives features too: a node is
    then a module beside it, which the pipeline asks for x0 and guidance alone.
    """

    name = "modelopt"
    host = "NVIDIA Model Optimizer: modelopt.torch.fastgen.DMDPipeline"
    found_at = Places("pipeline.teacher", "pipeline.fake_score", "pipeline.student")
    installations = ("in-place", "separate")

    def roles(self, host: Any) -> Roles:
        for name in ("teacher", "fake_score", "student"):
            if not isinstance(getattr(host, name, None), nn.Module):
                raise AdapterError(
                    f"{type(host).__name__} has no network {name!r}: {self.name} attaches to a "
                    "modelopt.torch.fastgen.DMDPipeline, or one derived from it"
                )
        self._pipeline = host
        return Roles(host.teacher, host.fake_score, host.student)

    def installation_kind(self, roles: Roles, config: DisBackConfig) -> InstallationKind:
        """Beside the teacher where a discriminator has its features; AdapterError."""
        kind = super().installation_kind(roles, config)
        if getattr(self._pipeline, "discriminator", None) is None:
            return kind
        if config.installation == "in-place":
            raise AdapterError(
                "the pipeline's discriminator takes its features from the teacher: in place, they "
                "would be a node's. Leave `installation` out, or ask for 'separate'"
            )
        return "separate"

    def installation(self, roles: Roles, config: DisBackConfig) -> Installation:
        if self.installation_kind(roles, config) == "in-place":
            return super().installation(roles, config)
        for name in NEEDED:
            if not callable(getattr(self._pipeline, name, None)):
                raise AdapterError(
                    f"{type(self._pipeline).__name__} has no {name}(), in which nodes answer "
                    "beside the teacher (nvidia-modelopt 0.47.0 has it): this release is not known"
                )
        beside = BesideTeacher(roles.teacher, roles.fake_score, config.rounding)
        beside.answer_in(self._pipeline)
        return beside
