"""A small host of our own with the places that Diff-Instruct's script has; no line is from there.

It has the same faults on current libraries and without CUDA, so that the same repairs apply.
"""

import json
from pathlib import Path

import click
import dnnlib
import torch
from torch_utils import distributed as dist
from training import di_training_loop as training_loop


@click.command()
@click.option("--outdir", required=True)
@click.option("--data", required=True)
@click.option("--cond", type=bool, default=False)
@click.option("--cbase", type=int, default=8)
@click.option("--cres", type=int, default=1)
@click.option("--duration", type=float, default=1.0)
@click.option("--batch", type=int, default=500)
@click.option("--batch-gpu", type=int)
@click.option("--tick", type=int, default=1)
@click.option("--snap", type=int, default=1)
@click.option("--seed", type=int)
@click.option("--init_sigma", type=float, default=2.5)
@click.option("--lr", type=float, default=1e-3)
@click.option("--transfer")
@click.option("--nosubdir", is_flag=True)
@click.option("--metrics")
@click.option("--edm_model", default="one")
def main(**kwargs):
    opts = dnnlib.EasyDict(kwargs)
    dist.init()
    c = dnnlib.EasyDict()
    c.data_loader_kwargs = {"num_workers": 1, "prefetch_factor": 2}
    c.network_kwargs = {"class_name": "training.networks.EDMPrecond", "model_channels": opts.cbase}
    c.loss_kwargs = {"class_name": "training.di_loss.DI_EDMLoss"}
    adam = {"class_name": "torch.optim.Adam", "lr": opts.lr, "betas": [0.0, 0.999]}
    c.sg_optimizer_kwargs, c.g_optimizer_kwargs = dict(adam), dict(adam)
    c.data, c.use_labels = opts.data, opts.cond
    c.batch_size, c.batch_gpu, c.init_sigma = opts.batch, opts.batch_gpu, opts.init_sigma
    c.total_kimg = int(opts.duration * 1000)
    c.kimg_per_tick, c.snapshot_ticks = opts.tick, opts.snap
    c.metrics = opts.metrics
    if opts.seed is None:
        first = torch.randint(1 << 15, size=[], device=torch.device("cuda"))
        second = torch.randint(1 << 15, size=[], device=torch.device("cuda"))
        opts.seed = int(first * second)
    c.seed = opts.seed
    resume_specs = {"one": "nowhere.pkl"}
    c.resume_pkl = resume_specs[opts.edm_model]
    c.transfer_pkl = opts.transfer
    c.run_dir = opts.outdir if dist.get_rank() == 0 else None
    if c.run_dir:
        Path(c.run_dir).mkdir(parents=True, exist_ok=True)
        Path(c.run_dir, "training_options.json").write_text(json.dumps(c))
    training_loop.training_loop(**c)


if __name__ == "__main__":
    main()
