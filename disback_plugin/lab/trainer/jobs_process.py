"""A process that does runs for `workers`, one after the other; not for hand use.

Reads requests `<arm> <seed>` from stdin, whose end means stop: whoever started us closed it or is
gone. Writes messages as JSON lines to what was stdout; everything printed goes to stderr, the log.
"""

import os
import queue
import sys
import threading
import traceback
from io import RawIOBase
from pathlib import Path
from typing import cast

import torch

from disback_plugin.config import Arm
from disback_plugin.errors import DisBackError
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.progress import Messages
from disback_plugin.lab.trainer.run import run_one
from disback_plugin.lab.trainer.run_folder import read_config


def main(out: Path, num_threads: int) -> None:
    """Do the runs asked for, in the experiment at `out`, until told to stop or one fails."""
    messages = Messages(_claim_stdout())
    torch.set_num_threads(num_threads)
    requests: queue.Queue[str | None] = queue.Queue()
    with Interrupt() as interrupt:
        threading.Thread(target=_listen, args=(requests, interrupt), daemon=True).start()
        going_on = True
        while going_on and (request := _next(requests, interrupt)) is not None:
            arm, seed = request.split()
            going_on = _do(out, cast(Arm, arm), int(seed), interrupt, messages)


def _do(out: Path, arm: Arm, seed: int, interrupt: Interrupt, messages: Messages) -> bool:
    """One run and the message on how it ended; whether to go on with others."""
    try:
        run_one(read_config(out), out, arm, seed, interrupt, messages)
    except RunInterrupted as stop:
        messages.send({"event": "interrupted", "step": stop.step})
    except DisBackError as error:
        messages.send({"event": "error", "message": str(error)})
    except Exception as error:  # told to the process that shows it, with where it came from
        messages.send({"event": "error", "message": "".join(traceback.format_exception(error))})
    else:
        messages.send({"event": "complete"})
        return True
    return False


def _listen(requests: "queue.Queue[str | None]", interrupt: Interrupt) -> None:
    """Pass requests on. Bare os.read: a thread inside sys.stdin would block Python's exit."""
    text = b""
    while data := os.read(0, 4096):
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            requests.put(line.decode())
    interrupt.request()
    requests.put(None)


def _next(requests: "queue.Queue[str | None]", interrupt: Interrupt) -> str | None:
    while not interrupt.requested:
        try:
            return requests.get(timeout=0.2)
        except queue.Empty:
            continue
    return None


def _claim_stdout() -> RawIOBase:
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
