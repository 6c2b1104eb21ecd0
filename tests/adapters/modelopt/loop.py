"""A training loop around Model Optimizer's own pipeline, on a tiny SD3 transformer of diffusers."""

import copy
from typing import Any

import modelopt.torch.fastgen as mtf
import torch
from diffusers import SD3Transformer2DModel
from modelopt.torch.fastgen.discriminators import Discriminator_ImageDiT
from modelopt.torch.fastgen.plugins.qwen_image import attach_feature_capture
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from disback_plugin import DisBack
from tests.adapters.modelopt.sharding import cut_as, fake_score_on_meta, moments_cut, shard, whole

SIDE, CHANNELS, WIDTH, TEXT = 4, 4, 16, 8
GAN = {"gan_loss_weight_gen": 0.1, "gan_r1_reg_weight": 1.0}
T_LIST = {"sample_t_cfg": mtf.SampleTimestepConfig(t_list=[0.999, 0.5, 0.0])}


def make_teacher() -> nn.Module:
    """Some weights of a new transformer are zero: all are drawn."""
    network = SD3Transformer2DModel(
        **{"sample_size": SIDE, "patch_size": 2, "in_channels": CHANNELS, "out_channels": CHANNELS},
        **{"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2},
        **{"joint_attention_dim": TEXT, "pooled_projection_dim": TEXT},
        **{"caption_projection_dim": WIDTH, "pos_embed_max_size": SIDE},
    )
    for value in network.parameters():
        nn.init.normal_(value, std=0.1)
    return network


def capture(teacher: nn.Module) -> None:
    """Features for a discriminator, by the library's own hooks."""
    attach_feature_capture(teacher, [0], SIDE, SIDE)


class Loop:
    """One pipeline and its optimizers; random numbers come from the global generator."""

    def __init__(
        self, settings: dict[str, Any], dtype: torch.dtype = torch.float32, sharded: bool = False
    ) -> None:
        more = T_LIST if "student_sample_steps" in settings else {}
        own = {"num_train_timesteps": 1000, "student_update_freq": 2, **more, **settings}
        # told of FSDP2, the average gathers on a GPU alone: left as it is cut up, it needs none
        average = mtf.EMAConfig(decay=0.9, fsdp2=False)
        config = mtf.DMDConfig(ema=average, **own)
        torch.manual_seed(1)
        teacher = make_teacher().to(dtype)
        student = copy.deepcopy(teacher)
        self.dtype = dtype
        if sharded:
            student, teacher = shard(student), shard(teacher)
            fake_score = fake_score_on_meta(make_teacher, teacher)
        else:
            fake_score = mtf.create_fake_score(teacher)
        discriminator = None
        if config.gan_loss_weight_gen:
            discriminator = Discriminator_ImageDiT({0}, num_blocks=1, inner_dim=WIDTH)
            capture(teacher)
        self.networks = {"student": student, "fake_score": fake_score}
        self.networks |= {"discriminator": discriminator} if discriminator else {}
        self.optimizers = [
            torch.optim.Adam(role.parameters(), lr=1e-3) for role in self.networks.values()
        ]
        self.networks["teacher"] = teacher
        rank = 0
        if distributed.is_initialized():
            rank = distributed.get_rank()
            if not sharded:
                student, fake_score = (_parallel(role) for role in (student, fake_score))
        self.pipeline = mtf.DMDPipeline(
            student, teacher, fake_score, config, discriminator=discriminator
        )
        self.num_updates = 0  # of the student
        torch.manual_seed(7 + rank)

    def step(self, step: int, disback: DisBack | None) -> list[float]:
        """As the library's documentation has it, and DisBack's calls; the losses."""
        turn = disback.begin_step(step) if disback else None
        data = self.batch()
        if (
            not turn or turn.update_student
        ) and step % self.pipeline.config.student_update_freq == 0:
            losses = [self.update_student(data)]
        else:
            losses = [self.descend(self.pipeline.compute_fake_score_loss(**data), 1)]
            if self.pipeline.discriminator is not None:
                losses.append(self.descend(self.pipeline.compute_discriminator_loss(**data), 2))
        if disback:
            disback.end_step(step)
        return losses

    def batch(self) -> dict[str, Tensor]:
        shape = (2, CHANNELS, SIDE, SIDE)
        drawn = {
            "latents": torch.randn(shape),
            "noise": torch.randn(shape),
            "encoder_hidden_states": torch.randn(2, 3, TEXT),
            "pooled_projections": torch.randn(2, TEXT),
        }
        return {name: value.to(self.dtype) for name, value in drawn.items()}

    def update_student(self, data: dict[str, Tensor]) -> float:
        negative = torch.zeros_like(data["encoder_hidden_states"])
        losses = self.pipeline.compute_student_loss(**data, negative_encoder_hidden_states=negative)
        loss = self.descend(losses, 0)
        self.num_updates += 1
        self.pipeline.update_ema(iteration=self.num_updates)
        return loss

    def descend(self, losses: dict[str, Tensor], which: int) -> float:
        self.optimizers[which].zero_grad()
        losses["total"].backward()
        if which == 2 and distributed.is_initialized():  # called too often a step for DDP
            for value in self.networks["discriminator"].parameters():
                distributed.all_reduce(value.grad)
        self.optimizers[which].step()
        return losses["total"].item()

    def state_dict(self) -> dict[str, Any]:
        """The average once it is one: a loaded average counts as begun."""
        return {
            "networks": {name: whole(role.state_dict()) for name, role in self.networks.items()},
            "optimizers": [whole(optimizer.state_dict()) for optimizer in self.optimizers],
            "num_updates": self.num_updates,
            "ema": whole(self.pipeline.ema.state_dict()) if self.num_updates else None,
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, role in self.networks.items():
            role.load_state_dict(cut_as(role.state_dict(), state["networks"][name]))
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(moments_cut(optimizer, own))
        self.num_updates = state["num_updates"]
        if state["ema"] is not None:
            average = self.pipeline.ema
            average.load_state_dict(cut_as(average.state_dict(), state["ema"]))
        torch.set_rng_state(state["random"])


def _parallel(role: nn.Module) -> nn.Module:
    return DistributedDataParallel(role, find_unused_parameters=True)
