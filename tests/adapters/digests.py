"""Fingerprints of weights."""

import hashlib

import torch


def digest_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes and bytes."""
    sha = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        value = getattr(value, "full_tensor", lambda value=value: value)()  # of a DTensor
        value = value.detach().cpu().contiguous()
        sha.update(f"{name} {value.dtype}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
