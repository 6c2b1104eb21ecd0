"""One thread a test process: tiny tensors only lose time to more, and results stay reproducible.

Signals are heeded by us and by what we start, also where a script runs the tests in the background
(which ignores SIGINT) or under nohup (which ignores SIGHUP).
"""

import signal

import torch

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
