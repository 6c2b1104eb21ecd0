"""Installation of whole networks: into the host's teacher module, or into a module beside it."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from disback_plugin.errors import InstallError
from disback_plugin.path import TeacherReference
from disback_plugin.real_score.installation import (
    Installation,
    InstallReport,
    copy_tensors,
    snapshot,
    unwrap,
)


class _WholeNetwork(Installation):
    """Teacher and fake score are two networks of the same architecture."""

    def __init__(self, teacher: nn.Module, fake_score: nn.Module, rounding: str) -> None:
        self.teacher, self.fake_score = unwrap(teacher), unwrap(fake_score)
        self.rounding = rounding
        self.reference = TeacherReference.of(self.teacher.state_dict())
        own, fake = self.reference.tensors, self.fake_score.state_dict()
        missing, extra = sorted(set(own) - set(fake)), sorted(set(fake) - set(own))
        reshaped = [name for name in own if name in fake and own[name].shape != fake[name].shape]
        if missing or extra or reshaped:
            raise InstallError(
                "teacher and fake score have different architectures: "
                f"{len(missing)} of {len(own)} tensors are missing in the fake score "
                f"(first: {missing[:3]}), {len(extra)} are only there (first: {extra[:3]}), "
                f"{len(reshaped)} have another shape (first: {reshaped[:3]})"
            )

    def read_fake_score(self) -> dict[str, Tensor]:
        return snapshot(self.fake_score)

    def load_fake_score(self, tensors: Mapping[str, Tensor]) -> None:
        copy_tensors(self.fake_score.state_dict(), tensors, "nearest", "fake_score")

    def _copy_into(
        self, module: nn.Module, node: int, tensors: Mapping[str, Tensor]
    ) -> InstallReport:
        own = module.state_dict()
        changed = copy_tensors(own, tensors, self.rounding, f"node {node}")
        return InstallReport(changed, len(own), self.measure(own).distance)


class InPlace(_WholeNetwork):
    """A node is copied into the host's own teacher module; wrappers around it stay valid.

    No device memory beyond the host's. For hosts that use their teacher as the real score only.
    """

    name = "in-place"

    def install(self, node: int, tensors: Mapping[str, Tensor]) -> InstallReport:
        return self._copy_into(self.teacher, node, tensors)

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        yield self.teacher


class SeparateModule(_WholeNetwork):
    """Nodes live in a frozen copy; the host's teacher stays untouched and answers as node 0.

    For hosts that use their teacher for other things too (features for a discriminator).
    """

    name = "separate"

    def __init__(self, teacher: nn.Module, fake_score: nn.Module, rounding: str) -> None:
        super().__init__(teacher, fake_score, rounding)
        self._node_module: nn.Module | None = None
        self._node = 0

    def install(self, node: int, tensors: Mapping[str, Tensor]) -> InstallReport:
        if node == 0:
            changed = len(self.reference.tensors) if self._node else 0
            self._node, self._node_module = 0, None  # its memory is free again
            return InstallReport(changed, len(self.reference.tensors), 0.0)
        if self._node_module is None:
            self._node_module = copy.deepcopy(self.teacher).requires_grad_(False)
        self._node = node
        return self._copy_into(self._node_module, node, tensors)

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        module = self._node_module
        if module is None:
            yield self.teacher
        else:
            yield module.train(self.teacher.training)
