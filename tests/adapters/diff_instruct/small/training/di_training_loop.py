# ruff: noqa: N806
"""Score distillation with the names and the order of Diff-Instruct's loop; written from scratch."""

import copy
import json
import os
import pickle
import time

import dnnlib
import torch
from torch_utils import distributed as dist
from torch_utils import misc, training_stats

from training.dataset import Pictures


def training_loop(
    run_dir=None,
    data=None,
    use_labels=False,
    data_loader_kwargs=None,
    network_kwargs=None,
    loss_kwargs=None,
    sg_optimizer_kwargs=None,
    g_optimizer_kwargs=None,
    seed=0,
    batch_size=500,
    batch_gpu=None,
    total_kimg=1,
    kimg_per_tick=1,
    snapshot_ticks=1,
    resume_pkl=None,
    transfer_pkl=None,
    init_sigma=2.5,
    metrics=None,
    device=torch.device("cuda"),  # noqa: B008
):
    start_time = time.time()
    torch.manual_seed(seed * dist.get_world_size() + dist.get_rank())
    own_batch = batch_size // dist.get_world_size()
    batch_gpu = batch_gpu or own_batch
    num_rounds = own_batch // batch_gpu

    dataset_obj = Pictures(data, use_labels)
    dataset_sampler = misc.InfiniteSampler(
        dataset_obj, dist.get_rank(), dist.get_world_size(), seed
    )
    loader = torch.utils.data.DataLoader(
        dataset_obj, sampler=dataset_sampler, batch_size=batch_gpu, **data_loader_kwargs
    )
    dataset_iterator = iter(loader)

    side, num_labels = 4, dataset_obj.labels.shape[1]
    sizes = {"img_resolution": side, "img_channels": 3, "label_dim": num_labels}
    net = dnnlib.util.construct_class_by_name(**network_kwargs, **sizes)
    net.requires_grad_(False).to(device)
    Sg = copy.deepcopy(net).train().requires_grad_(True)
    G = copy.deepcopy(net).train().requires_grad_(True)
    optimizer, g_optimizer = (
        dnnlib.util.construct_class_by_name(params=network.parameters(), **kwargs)
        for network, kwargs in ((Sg, sg_optimizer_kwargs), (G, g_optimizer_kwargs))
    )
    loss_fn = dnnlib.util.construct_class_by_name(**loss_kwargs)
    Sgddp = torch.nn.parallel.DistributedDataParallel(Sg, device_ids=[device])
    Gddp = torch.nn.parallel.DistributedDataParallel(G, device_ids=[device])
    Gema = copy.deepcopy(G).requires_grad_(False)

    if resume_pkl is not None:
        with dnnlib.util.open_url(resume_pkl) as stream:
            data = pickle.load(stream)
        for network in (net, Sg, G, Gema):
            misc.copy_params_and_buffers(data["ema"], network)
    if transfer_pkl is not None:
        with dnnlib.util.open_url(transfer_pkl) as stream:
            data = pickle.load(stream)
        for network in (G, Gema):
            misc.copy_params_and_buffers(data["ema"], network)

    cur_nimg, cur_tick, tick_start_nimg = 0, 0, 0
    iter_cnt = 0
    while True:
        optimizer.zero_grad(set_to_none=True)
        for number in range(1, num_rounds + 1):
            with misc.ddp_sync(Sgddp, number == num_rounds):
                pictures, labels = (part.to(device) for part in next(dataset_iterator))
                images = pictures / 127.5 - 1
                with torch.no_grad():
                    z = init_sigma * torch.randn_like(images)
                    sigmas = torch.full_like(z[:, :1, :1, :1], init_sigma)
                    gen_images = G.eval()(z, sigmas, labels)
                    G.train()
                loss = loss_fn(net=Sgddp, images=gen_images, labels=labels, augment_pipe=None)
                training_stats.report("SgLoss/loss", loss.detach())
                loss.sum().div(own_batch).backward()
        optimizer.step()

        g_optimizer.zero_grad(set_to_none=True)
        for number in range(1, num_rounds + 1):
            with misc.ddp_sync(Gddp, number == num_rounds):
                z = init_sigma * torch.randn_like(images)
                gen_images = Gddp(z, sigmas, labels)
                loss = loss_fn.gloss(
                    Sd=net, Sg=Sg, images=gen_images, labels=labels, augment_pipe=None
                )
                training_stats.report("GLoss/loss", loss.detach())
                loss.sum().div(own_batch).backward()
        g_optimizer.step()
        for p_ema, p_net in zip(Gema.parameters(), G.parameters(), strict=True):
            p_ema.copy_(p_net.detach().lerp(p_ema, 0.9))

        iter_cnt += 1
        cur_nimg += batch_size
        done = cur_nimg >= total_kimg * 1000
        if not done and cur_tick and cur_nimg < tick_start_nimg + kimg_per_tick * 1000:
            continue
        print(f"tick {cur_tick}, step {iter_cnt}: {time.time() - start_time:.0f} s")
        torch.cuda.reset_peak_memory_stats()
        if done or cur_tick % snapshot_ticks == 0:
            if dist.get_rank() == 0:
                name = f"network-snapshot-{cur_nimg // 1000:06d}.pkl"
                with open(os.path.join(run_dir, name), "wb") as stream:
                    pickle.dump({"ema": Gema, "Sg": Sg}, stream)
            for metric in metrics:
                raise NotImplementedError(metric)
        training_stats.default_collector.update()
        if dist.get_rank() == 0:
            with open(os.path.join(run_dir, "stats.jsonl"), "a") as stream:
                stream.write(json.dumps(training_stats.default_collector.as_dict()) + "\n")
        cur_tick += 1
        tick_start_nimg = cur_nimg
        if done:
            break
