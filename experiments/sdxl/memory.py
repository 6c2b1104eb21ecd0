"""Device memory of one_gpu.yaml by arithmetic: the trainer's own roles, with tensors of no content.

The roles are made as in a run and trained for one step, an update of the fake score and one of the
student, on fake tensors of torch: each operation says what it would allocate, nothing is computed,
and no GPU is needed. On top comes what torch takes elsewhere: the CUDA context, the gaps of its
allocator, the workspace of convolutions.

    python experiments/sdxl/memory.py [CONFIG] [KEY=VALUE ...]
"""

import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from disback_plugin.diffusion import EpsDenoiser, GuidedNetwork, TextCondition, alphas_cumprod
from disback_plugin.lab.config.experiment import ExperimentConfig, load_config
from disback_plugin.lab.trainer.shared_base import SharedBase, SharedRole
from disback_plugin.pretrained.diffusers.text_models import TextUNet

GIB = 1 << 30
TOKENS, POOLED, CHANNELS = 77, 1280, 4
# unet/config.json of stabilityai/stable-diffusion-xl-base-1.0
SDXL: Mapping[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


class Allocated(TorchDispatchMode):
    """Counts bytes of storages from when an operation makes them until nobody holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.count, answer)
        return answer

    def count(self, value: Tensor) -> None:
        """Count a tensor's storage, if it is not counted yet."""
        storage = value.untyped_storage()
        if getattr(storage, "counted_by", None) is self:
            return
        storage.counted_by = self
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


@dataclass(frozen=True)
class Memory:
    """Bytes. lora: of one adapter, of which `num_loras` are kept; peak: of all at once."""

    base: int
    lora: int
    num_loras: int
    moments: int
    peak: int

    @property
    def rest(self) -> int:
        """Gradients, activations and what is made on the way, at the peak."""
        return self.peak - self.base - self.num_loras * self.lora - self.moments

    def table(self) -> str:
        """For README.md."""
        rows = [
            ("base: teacher, fake score and student, bfloat16", self.base),
            (f"LoRA, float32: {self.num_loras} of {self.lora:,} bytes (student, its average, "
             "fake score, node)", self.num_loras * self.lora),
            ("moments of the optimizers of student and fake score", self.moments),
            ("gradients, kept activations, one block computed again", self.rest),
            ("together, at the peak", self.peak),
        ]  # fmt: skip
        lines = ["| what | bytes | GiB |", "|---|---|---|"]
        return "\n".join([*lines, *(f"| {w} | {n:,} | {n / GIB:.1f} |" for w, n in rows)]) + "\n"


def measure(
    config: ExperimentConfig,
    unet: Mapping[str, Any] = SDXL,
    turns: Sequence[str] = ("fake_score", "student"),
) -> Memory:
    """The memory of a step of `config` on such a U-Net, in samples of its own size.

    turns: whose updates are looked at; the student's takes more, as its activations wait for the
    answers of the others.
    """
    assert config.lora is not None
    text = TextCondition(
        torch.zeros(1, TOKENS, unet["cross_attention_dim"]), torch.zeros(1, POOLED)
    )
    with torch.device("meta"):
        torch.set_default_dtype(torch.bfloat16)
        network = UNet2DConditionModel(**unet)
        torch.set_default_dtype(torch.float32)
    guided = GuidedNetwork(TextUNet(network), text, config.teacher.options["guidance_scale"])
    denoiser = EpsDenoiser(guided, alphas_cumprod("scaled_linear"), nearest_t=True)
    shared = SharedBase(denoiser)
    factors = {name: shared.add(name, config.lora, 0) for name in ("student", "fake_score")}
    if config.gradient_checkpointing:
        shared.save_memory()
    counted = Allocated()
    with FakeTensorMode(allow_non_fake_inputs=True), mock.patch.multiple(nn.functional, **AS_A_GPU):
        _place(denoiser)
        student = SharedRole(shared, "student", factors["student"], denoiser)
        fake_score = SharedRole(shared, "fake_score", factors["fake_score"], denoiser)
        teacher = SharedRole(shared, None, {}, denoiser)
        own, base = _bytes(student), _bytes(network) - _bytes(student) - _bytes(fake_score)
        with counted:
            for value in network.parameters():
                counted.count(value)
            kept = [torch.empty(own, dtype=torch.uint8) for _ in ("average", "node")]
            roles = {"student": student, "fake_score": fake_score}
            distill = config.distill
            optimizers = {
                "student": distill.student_optimizer_settings.make(student.parameters()),
                "fake_score": distill.fake_optimizer_settings.make(fake_score.parameters()),
            }
            before = counted.now
            for turn in ("fake_score", "student"):  # once, so that there are moments
                optimizers[turn].step(lambda role=roles[turn]: _gradients_of_zero(role))
                optimizers[turn].zero_grad(set_to_none=True)
            moments, counted.peak = counted.now - before, 0
            num, size = distill.batch_size, unet["sample_size"]
            noise, sigma = torch.empty(num, CHANNELS, size, size), torch.empty(num)
            asked = noise, sigma, text.to(noise)[torch.zeros(num, dtype=torch.long)]
            for turn in turns:
                _turn(turn, student, fake_score, teacher, asked)
                optimizers[turn].step()
                optimizers[turn].zero_grad(set_to_none=True)
    return Memory(base, own, len(roles) + len(kept), moments, counted.peak)


def _turn(
    turn: str, student: nn.Module, fake_score: nn.Module, teacher: nn.Module, asked: Any
) -> None:
    """Forward and backward of a role's turn, the others asked as in trainer/loop.py."""
    if turn == "student":
        loss = _autocast(student, *asked).square().mean()
        with torch.no_grad():
            _autocast(fake_score, *asked)
            _autocast(teacher, *asked)
    else:
        with torch.no_grad():
            _autocast(student, *asked)
        loss = _autocast(fake_score, *asked).square().mean()
    loss.backward()


def _autocast(role: nn.Module, *asked: Any) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return role(*asked).float()


def _flash_attention(
    query: Tensor, key: Tensor, value: Tensor, *_: Any, dropout_p: float = 0.0, **__: Any
) -> Tensor:
    """What a GPU takes for these shapes: no matrix of all pairs is kept."""
    inputs = (part.to(torch.bfloat16) for part in (query, key, value))
    return torch.ops.aten._scaled_dot_product_flash_attention(*inputs, dropout_p)[0]


def _in_float32(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As autocast has it on a GPU."""

    def normed(*given: Any, **named: Any) -> Tensor:
        return norm(*tree_map_only(Tensor, Tensor.float, given), **named)

    return normed


# functions of torch.nn.functional that a CPU, where fake tensors are, has in another way
AS_A_GPU = {
    "scaled_dot_product_attention": _flash_attention,
    "group_norm": _in_float32(nn.functional.group_norm),
    "layer_norm": _in_float32(nn.functional.layer_norm),
}


def _gradients_of_zero(role: nn.Module) -> None:
    for value in role.parameters():
        value.grad = torch.zeros_like(value)


def _place(module: nn.Module) -> None:
    """Give a module on the meta device parameters, and buffers, of no content."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                made = torch.empty(value.shape, dtype=value.dtype)
                part._parameters[name] = nn.Parameter(made, requires_grad=value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype)


def _bytes(module: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in module.parameters())


def main(arguments: Sequence[str]) -> None:
    """Print the table of a config."""
    files = [word for word in arguments if "=" not in word]
    file = Path(files[0]) if files else Path(__file__).with_name("one_gpu.yaml")
    print(measure(load_config(file, [word for word in arguments if "=" in word])).table(), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
