"""One thread a test process: tiny tensors only lose time to more, and results stay reproducible."""

import torch

torch.set_num_threads(1)
