"""Printing for a reader that may leave."""

import os
import sys
from collections.abc import Iterable


def show(lines: Iterable[str]) -> None:
    """Print lines; a reader that has seen enough (`| head`) is no error."""
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
