"""One run in this process, for `jobs`; not for hand use.

Writes messages as JSON lines to what was stdout: steps, warnings, and last how the run ended;
everything printed goes to stderr, the log. The end of stdin means stop, as SIGTERM does: whoever
started us closed it or is gone.
"""

import logging
import os
import sys
import threading
import traceback
from io import RawIOBase
from pathlib import Path
from typing import Any, cast

from disback_plugin.config import Arm
from disback_plugin.errors import DisBackError
from disback_plugin.lab.trainer.distill import run_arm
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.progress import Messages
from disback_plugin.lab.trainer.run_folder import read_config


def main(out: Path, arm: Arm, seed: int) -> None:
    """Do the run, in the experiment at `out`."""
    messages = Messages(_claim_stdout())
    logging.captureWarnings(True)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger().addHandler(_Warnings(messages))
    with Interrupt() as interrupt:
        threading.Thread(target=_await_end_of_stdin, args=(interrupt,), daemon=True).start()
        messages.send(_do(out, arm, seed, interrupt, messages))


def _do(out: Path, arm: Arm, seed: int, interrupt: Interrupt, messages: Messages) -> dict[str, Any]:
    """The run; the message on how it ended."""
    try:
        run_arm(Experiment(read_config(out), out), arm, seed, interrupt, messages)
    except RunInterrupted as stop:
        return {"event": "interrupted", "step": stop.step}
    except (DisBackError, OSError) as error:
        return {"event": "error", "message": str(error)}
    except Exception as error:  # told to the process that shows it, with where it came from
        return {"event": "error", "message": "".join(traceback.format_exception(error))}
    return {"event": "complete"}


class _Warnings(logging.Handler):
    """Sends what is logged to the process that has the terminal."""

    def __init__(self, messages: Messages) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.send({"event": "warning", "message": record.getMessage()})


def _await_end_of_stdin(interrupt: Interrupt) -> None:
    """Bare os.read: a thread inside sys.stdin would block Python's exit."""
    while os.read(0, 4096):
        pass
    interrupt.request()


def _claim_stdout() -> RawIOBase:
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


if __name__ == "__main__":
    main(Path(sys.argv[1]), cast(Arm, sys.argv[2]), int(sys.argv[3]))
