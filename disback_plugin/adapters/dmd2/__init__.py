"""DMD2 (tianweiy/DMD2) by role: `guidance_model.real_unet`, `.fake_unet`, `feedforward_model`."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles, register_adapter
from disback_plugin.adapters.dmd2.measure import edm_measure, sd_measure
from disback_plugin.config import DisBackConfig
from disback_plugin.errors import AdapterError
from disback_plugin.measure import Measure
from disback_plugin.path import TeacherReference
from disback_plugin.real_score import InPlace, Installation
from disback_plugin.real_score.installation import is_sharded, unwrap
from disback_plugin.real_score.whole import finest_reference


@dataclass(frozen=True)
class DMD2Host:
    """DMD2's model, wrapped or not, and its teacher as it was built.

    A checkpoint made on the way back holds a node as teacher, so `teacher` is taken before one is
    loaded: by `remember_teacher`. prompts: the data set that the generator's prompts come from, for
    the measure; EDM has none.
    """

    model: nn.Module
    teacher: TeacherReference
    prompts: Any = None


def remember_teacher(model: Any) -> TeacherReference:
    """The teacher of a just-built model, in the fake score's precision where it was cast from it.

    Both networks start from one file. `--use_fp16` casts the teacher to bfloat16; nodes are
    compared with what it was before, and node 0 cast again gives its exact bytes.
    """
    real = model.guidance_model.real_unet.state_dict()
    fake = model.guidance_model.fake_unet.state_dict()
    if real.keys() != fake.keys():
        raise AdapterError("DMD2's real_unet and fake_unet have different tensors")
    return finest_reference(real, fake)


class _DMD2Adapter(Adapter):
    found_at = Places("guidance_model.real_unet", "guidance_model.fake_unet", "feedforward_model")
    installations = ("in-place",)

    def roles(self, host: Any) -> Roles:
        if not isinstance(host, DMD2Host):
            raise AdapterError(f"{self.name} attaches to a DMD2Host (seen: {type(host).__name__})")
        self._host = host
        guidance: Any = unwrap(host.model.get_submodule("guidance_model"))
        student = host.model.get_submodule("feedforward_model")
        for name in ("real_unet", "fake_unet"):
            if not isinstance(getattr(guidance, name, None), nn.Module):
                raise AdapterError(f"DMD2's guidance_model has no {name}: --gan_alone deletes it")
        return Roles(guidance.real_unet, guidance.fake_unet, student)

    def installation(self, roles: Roles, config: DisBackConfig) -> Installation:
        self.installation_kind(roles, config)  # refuses any but in place
        root = unwrap(self._host.model.get_submodule("guidance_model"))
        if is_sharded(root):
            from disback_plugin.real_score.sharded import ShardedInPlace  # needs FSDP, so only here

            return ShardedInPlace(
                root, "real_unet", "fake_unet", config.rounding, self._host.teacher
            )
        return InPlace(roles.teacher, roles.fake_score, config.rounding, self._host.teacher)


@register_adapter
class DMD2SDAdapter(_DMD2Adapter):
    """`main/train_sd.py`: SDXL and SD1.5."""

    name = "dmd2-sd"
    host = "DMD2, main/train_sd.py"

    def measure(self, host: Any) -> Measure | None:
        return sd_measure(host.model, host.prompts)


@register_adapter
class DMD2EDMAdapter(_DMD2Adapter):
    """`main/edm/train_edm.py`: ImageNet-64."""

    name = "dmd2-edm"
    host = "DMD2, main/edm/train_edm.py"

    def measure(self, host: Any) -> Measure | None:
        return edm_measure(host.model)
