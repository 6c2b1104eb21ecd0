"""The real FastGen at the sizes of its own trainer test: 8x8 pictures, an EDM network."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fastgen.configs.config_utils import override_config_with_opts
from fastgen.utils import LazyCall, instantiate
from omegaconf import DictConfig

SIDE, NUM_LABELS = 8, 10


class Noise:
    """Batches of noise as pictures, from the global generator."""

    def __init__(self, batch_size: int, sampler_start_idx: int | None = None) -> None:
        self.batch_size, self.sampler_start_idx = batch_size, sampler_start_idx

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            labels = torch.randint(NUM_LABELS, (self.batch_size,))
            condition = torch.nn.functional.one_hot(labels, NUM_LABELS).float()
            real = torch.randn(self.batch_size, 3, SIDE, SIDE)
            zeros = torch.zeros_like(condition)
            yield {"real": real, "condition": condition, "neg_condition": zeros}


def create_config() -> Any:
    """For `train.py --config`, of the method FASTGEN_METHOD."""
    method = os.environ["FASTGEN_METHOD"]
    config = importlib.import_module(f"fastgen.configs.methods.config_{method}").create_config()
    config.trainer.callbacks = DictConfig({})
    model = config.model
    size = ["-", f"img_resolution={SIDE}", "channel_mult=[1]", "channel_mult_noise=1"]
    model.net = override_config_with_opts(model.net, [*size, "model_channels=32"])
    head = ["-", "feature_indices=[0]", f"all_res=[{SIDE}]", "in_channels=32"]
    model.discriminator = override_config_with_opts(model.discriminator, head)
    model.input_shape, model.device = [3, SIDE, SIDE], torch.device("cpu")
    model.student_update_freq, model.gan_loss_weight_gen = 2, 0.01
    model.net_optimizer.lr = 1e-3
    model.pretrained_model_path = str(_teacher(model.net))
    config.dataloader_train = LazyCall(Noise)(batch_size=2, sampler_start_idx=None)
    config.dataloader_val = LazyCall(Noise)(batch_size=2)
    config.trainer.global_vars_val = [{"MAX_VAL_STEPS": 1}]
    config.trainer.validation_iter, config.trainer.logging_iter = 4, 100
    return config


def _teacher(net: Any) -> Path:
    """Its weights, of one seed; some of a new network's are zero."""
    file = Path(os.environ["FASTGEN_OUTPUT_ROOT"]) / f"teacher.{os.environ.get('RANK', '0')}.pth"
    if not file.exists():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = instantiate(net)
            for value in network.parameters():
                torch.nn.init.normal_(value, std=0.05)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), file)
    return file
