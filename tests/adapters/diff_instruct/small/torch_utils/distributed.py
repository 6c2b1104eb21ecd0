"""The process group."""

import os

import torch

from torch_utils import training_stats


def init():
    for name, value in (("MASTER_ADDR", "localhost"), ("RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(name, value)
    backend = "nccl"
    torch.distributed.init_process_group(backend=backend)
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    sync_device = torch.device("cuda") if get_world_size() > 1 else None
    training_stats.gather_on(sync_device)


def get_rank():
    return torch.distributed.get_rank()


def get_world_size():
    return torch.distributed.get_world_size()
