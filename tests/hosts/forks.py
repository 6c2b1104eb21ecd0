"""A driver's jobs, each in a fork of its own: only the imports are shared, and a kill ends one."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def in_a_fork(run: Callable[[dict[str, Any]], None], job: dict[str, Any]) -> None:
    """Run a job; ends this process too where it failed, unless it was to be killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(job)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # where two are killed, the later one may first meet a closed connection
    if (code == 0) == ("kill" in job):
        sys.exit(f"{job['notes']} ended with {code}")
