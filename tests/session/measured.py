"""What a measure may answer: samples, and the teacher's pull on them."""

import torch

SAMPLES = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).repeat(4, 1)
APART = 2**0.5 * SAMPLES.flip(1) * torch.tensor([1.0, -1.0])  # a rotation: nothing in common
TOGETHER = torch.ones(16, 2)  # one shift
