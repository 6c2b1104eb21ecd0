"""FastGen (NVlabs/FastGen) by role: `teacher`, `fake_score`, `net`; `callback` trains it."""

from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles, register_adapter
from disback_plugin.config import DisBackConfig, InstallationKind
from disback_plugin.errors import AdapterError
from disback_plugin.real_score.installation import is_fully_sharded


@register_adapter
class FastGenAdapter(Adapter):
    """`DMD2Model` and what derives from it; attached by `callback.DisBackCallback`.

    Its teacher gives the discriminator's features too, so a node is a module beside it. Under FSDP2
    it cannot be copied: without a discriminator nodes are then installed in place.
    """

    name = "fastgen"
    host = "FastGen: DMD2Model, FdistillModel, CausVidModel, SelfForcingModel"
    found_at = Places("model.teacher", "model.fake_score", "model.net")
    installations = ("separate",)

    def installation_kind(self, roles: Roles, config: DisBackConfig) -> InstallationKind:
        """Beside the teacher, or in place where that is sharded; AdapterError where neither can."""
        if not is_fully_sharded(roles.teacher):
            return super().installation_kind(roles, config)
        if self._has_gan:
            raise AdapterError(
                "FastGen's teacher is sharded (trainer.fsdp) and gives the discriminator's "
                "features: in place, they would be a node's, and a sharded network cannot be "
                "copied. Set model.gan_loss_weight_gen=0"
            )
        return "in-place"

    def roles(self, host: Any) -> Roles:
        for name in ("teacher", "fake_score", "net"):
            if not isinstance(getattr(host, name, None), nn.Module):
                raise AdapterError(
                    f"FastGen's {type(host).__name__} has no {name}: DisBack needs a teacher that "
                    "answers as the real score, and a fake score (DMD2Model, FdistillModel, "
                    "CausVidModel, SelfForcingModel, or a model derived from one of them)"
                )
        if not callable(getattr(host, "_student_update_step", None)):
            raise AdapterError(
                f"FastGen's {type(host).__name__} has no _student_update_step, in which nodes "
                "answer: FastGen has changed since the commit in third_party/README.md"
            )
        self._has_gan = getattr(host, "discriminator", None) is not None
        return Roles(host.teacher, host.fake_score, host.net)
