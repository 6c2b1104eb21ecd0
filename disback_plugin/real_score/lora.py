"""Installation for hosts whose real and fake score share a base: nodes are LoRA states (PEFT).

Loading a node into the base would change the fake score too, so it becomes a second, frozen adapter
that is active only while the real score is evaluated. Base and trained adapter stay untouched.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.errors import InstallError
from disback_plugin.path import NodePrecision, TeacherReference, choose_rounding
from disback_plugin.real_score.copying import Casting, InstallReport, Node, copy_node
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.installation import Installation, unwrap
from disback_plugin.real_score.lora_layers import (
    NODE_ADAPTER,
    adapter_tensors,
    adapters_kept,
    add_node_adapter,
    lora_layers,
    remove_node_adapter,
    show_base,
    show_node,
    single_adapter,
)
from disback_plugin.real_score.pieces import whole_pieces
from disback_plugin.real_score.staging import StagedNode
from disback_plugin.real_score.weights import readable
from disback_plugin.tensors import snapshot


class LoRAAdapter(Installation):
    """`model` holds the base and the trained adapter; the base alone is the teacher (node 0)."""

    name = "lora"
    needs_real_score = True

    def __init__(self, model: nn.Module, rounding: str, trained: str | None = None) -> None:
        self.model = unwrap(model)
        layers = lora_layers(self.model)
        if not layers:
            raise InstallError(
                "real and fake score are one module, but it has no LoRA layer: add an adapter "
                "before attaching, or give two separate networks"
            )
        self.trained = trained or single_adapter(layers)
        self.detach()  # what an earlier session left
        add_node_adapter(self.model, self.trained)
        own = self._adapter_tensors(self.trained)
        zeros = {name: torch.zeros_like(value) for name, value in own.items()}
        base = self._base_tensors()
        self.reference = TeacherReference.of(zeros, identity=base)
        self.rounding = choose_rounding(rounding, zeros, {value.dtype for value in own.values()})
        self.buffers = frozenset(dict(self.model.named_buffers()))
        self._of_node, self._of_base = Footing(), Footing()
        self._of_base.moved(whole_pieces(base))
        self._node = 0

    def detach(self) -> None:
        """Take the node adapter out of the host's layers; this installation then has no use."""
        remove_node_adapter(self.model)

    def read_fake_score(self) -> dict[str, Tensor]:
        return snapshot(self._adapter_tensors(self.trained))

    def check_start(self) -> None:
        distance, _ = self._merged(self.trained)
        if distance:
            raise InstallError(
                f"the fake score does not start as the teacher: its adapter {self.trained!r} "
                f"changes the base by {distance:.2g} of its size; start with B = 0, as LoRA does"
            )

    def load_fake_score(self, tensors: Node) -> None:
        copy_node(whole_pieces(self._adapter_tensors(self.trained)), tensors)

    def install(self, node: int, tensors: Node | StagedNode) -> InstallReport:
        assert not isinstance(tensors, StagedNode), "a LoRA is too small to be staged"
        own = self._adapter_tensors(NODE_ADAPTER)
        previous, moved = self._node, self.overwritten() if node == 0 else []
        self._node = node
        if node == 0:  # the base alone answers: nothing to copy
            changed = len(own) if previous else 0
            return InstallReport(changed, len(own), 0.0, overwritten=tuple(moved))
        casting = Casting.of(node, self.rounding, self.reference.tensors)
        copied = copy_node(whole_pieces(own), tensors, casting, self._of_node).report()
        distance, _ = self._merged(NODE_ADAPTER)
        changed = copied.changed_tensors
        if previous == 0:  # what it held did not answer
            changed = len(own) if distance else 0
        return replace(copied, changed_tensors=changed, distance=distance)

    def overwritten(self) -> list[str]:
        """Of the base, which is the teacher, and of the node while it answers."""
        own = self._adapter_tensors(NODE_ADAPTER) if self._node else {}
        base = whole_pieces(self._base_tensors())
        return self._of_base.moved(base) + self._of_node.moved(whole_pieces(own))

    def forget(self) -> None:
        self._of_node.forget()

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        with adapters_kept(self.model):
            if self._node == 0:
                show_base(self.model)
            else:
                show_node(self.model)
            yield self.model

    def precision_of(self, tensors: Mapping[str, Tensor]) -> NodePrecision:
        """Distance of the merged weights: |scale B A| / |W| over the adapted layers.

        In bf16, A and B are cast, not W + scale B A: the adapter is never merged, so a change far
        below one unit in W's last place still counts. Survives: of the merged entries that differ
        from zero. DoRA's magnitudes and LoRA's bias are not in these figures.
        """
        with self._holding(tensors):
            distance, changed = self._merged(NODE_ADAPTER)
        with self._holding({name: value.bfloat16() for name, value in tensors.items()}):
            bf16_distance, survived = self._merged(NODE_ADAPTER)
        share = min(1.0, survived / changed) if changed else 0.0
        return NodePrecision(distance, bf16_distance=bf16_distance, bf16_survives=share)

    @contextmanager
    def _holding(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """The node adapter holds `tensors` meanwhile."""
        own = whole_pieces(self._adapter_tensors(NODE_ADAPTER))
        kept = {name: piece.own.clone() for name, piece in own.items()}
        try:
            copy_node(own, tensors)
            yield
        finally:
            copy_node(own, kept)

    @torch.no_grad()
    def _merged(self, adapter: str) -> tuple[float, int]:
        """|scale B A| / |W| of an adapter, and how many merged entries are not zero."""
        gap = size = 0.0
        changed = 0
        layer: Any  # every adapted layer has a base and a delta weight, the base class does not say
        for layer in lora_layers(self.model):
            delta = layer.get_delta_weight(adapter)
            gap += delta.double().square().sum().item()
            size += layer.get_base_layer().weight.double().square().sum().item()
            changed += int(delta.count_nonzero())
        return float((gap / size) ** 0.5), changed

    def _adapter_tensors(self, adapter: str) -> dict[str, Tensor]:
        return adapter_tensors(self.model, adapter)

    def _base_tensors(self) -> dict[str, Tensor]:
        state = readable(self.model, "teacher")
        return {name: value for name, value in state.items() if ".lora_" not in name}
