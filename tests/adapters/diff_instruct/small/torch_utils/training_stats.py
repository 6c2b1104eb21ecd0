"""Means of what was reported since the last update, over all processes."""

import torch

_values = {}
_device = None


def gather_on(device):
    global _device
    _device = device


def report(name, value):
    _values.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float64).mean().item())


def report0(name, value):
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        report(name, value)


class Collector:
    def update(self):
        if _device is not None:
            torch.distributed.barrier()
        self.means = {name: {"mean": sum(seen) / len(seen)} for name, seen in _values.items()}
        _values.clear()

    def as_dict(self):
        return self.means


default_collector = Collector()
