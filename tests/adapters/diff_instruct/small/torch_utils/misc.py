"""An endless sampler, weights by name, gradients synchronised once a step."""

import contextlib

import torch


class InfiniteSampler(torch.utils.data.Sampler):
    def __init__(self, dataset, rank, num_replicas, seed):
        super().__init__(dataset)
        self.size, self.rank, self.num_replicas, self.seed = len(dataset), rank, num_replicas, seed

    def __iter__(self):
        random = torch.Generator().manual_seed(self.seed)
        count = 0
        while True:
            for index in torch.randperm(self.size, generator=random).tolist():
                if count % self.num_replicas == self.rank:
                    yield index
                count += 1


@torch.no_grad()
def copy_params_and_buffers(src_module, dst_module):
    given = src_module.state_dict()
    for name, value in dst_module.state_dict().items():
        if name in given:
            value.copy_(given[name])


def ddp_sync(module, sync):
    return contextlib.nullcontext() if sync else module.no_sync()
