"""FastGen (NVlabs/FastGen) by role: `teacher`, `fake_score`, `net`; `callback` trains it."""

from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles, register_adapter
from disback_plugin.errors import AdapterError


@register_adapter
class FastGenAdapter(Adapter):
    """`DMD2Model` and what derives from it; attached by `callback.DisBackCallback`.

    Its teacher gives the discriminator's features too, so a node is a module beside it.
    """

    name = "fastgen"
    host = "FastGen: DMD2Model, FdistillModel, CausVidModel, SelfForcingModel"
    found_at = Places("model.teacher", "model.fake_score", "model.net")
    installations = ("separate",)

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
        return Roles(host.teacher, host.fake_score, host.net)
