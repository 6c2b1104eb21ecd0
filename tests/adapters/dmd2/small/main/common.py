"""Small host: what its two scripts do alike; no line is DMD2's."""

import argparse
import os
import time

import torch

TEXTS = ("output_path", "cache_dir", "checkpoint_path", "ckpt_only_path", "generator_ckpt_path")
SIZES = {"resolution": 1, "latent_resolution": 1, "latent_channel": 4, "label_dim": 3}
NUMBERS = ("train_iters", "log_iters", "wandb_iters", "seed", "dfake_gen_update_ratio")


def make_parser(*switches):
    parser = argparse.ArgumentParser("small host")
    for name in TEXTS:
        parser.add_argument(f"--{name}")
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=int, default=1)
    for name in ("generator_lr", "guidance_lr"):
        parser.add_argument(f"--{name}", type=float, default=1e-2)
    parser.set_defaults(**SIZES, batch_size=2, conditioning_sigma=80.0, denoising=False, sdxl=False)
    for name in switches:
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def name_folders(trainer, args):
    """Where the main process writes."""
    stamp = f"time_{time.time_ns()}_seed{args.seed}"
    trainer.output_path = os.path.join(args.output_path, stamp)
    trainer.cache_dir = os.path.join(args.cache_dir, stamp)
    os.makedirs(trainer.output_path)


def step_of(folder):
    return int(folder.rstrip("/").split("_")[-1])


def load_weights(model, folder):
    """Those of both roles; returns the step they were saved at."""
    names = ("pytorch_model.bin", "pytorch_model_1.bin")
    for network, name in zip((model.feedforward_model, model.guidance_model), names, strict=True):
        network.load_state_dict(torch.load(os.path.join(folder, name)))
    return step_of(folder)


def make_dataset():
    return [{"text_input_ids_one": torch.tensor([[number]])} for number in range(12)]


def make_loader(dataset):
    return torch.utils.data.DataLoader(dataset, batch_size=2, shuffle=True, drop_last=True)
