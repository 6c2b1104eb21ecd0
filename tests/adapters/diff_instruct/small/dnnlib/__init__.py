"""What a configuration needs."""

from dnnlib import util
from dnnlib.util import EasyDict

__all__ = ["EasyDict", "util"]
