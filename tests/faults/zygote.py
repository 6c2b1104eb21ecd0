"""A process that has imported what its works need, and runs each of them in a fork."""

import importlib
import io
import json
import os
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Zygote:
    """The test's side: `run` answers what a function of a module returned, in a fork."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def run(self, function: str, *args: Any, warm: tuple[str, ...] = ()) -> Any:
        """The JSON-able result of `module:function`; "killed" where SIGKILL ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"function": function, "args": args, "warm": warm}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        for name in (job["function"].split(":")[0], *job["warm"]):
            importlib.import_module(name)
        print(json.dumps(_forked(job)), flush=True)


def _forked(job: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        module, name = job["function"].split(":")
        hidden = io.StringIO()
        try:
            with redirect_stdout(hidden), redirect_stderr(hidden):
                result = getattr(sys.modules[module], name)(*job["args"])
            answer = {"result": result}
        except BaseException:
            last = traceback.format_exc().strip().splitlines()[-4:]
            answer = {"error": " / ".join(line.strip() for line in last)}
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(writing, data) :]
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        data = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if data:
        return json.loads(data)
    return {"result": "killed"} if code == -9 else {"error": f"a fork ended with {code}"}


if __name__ == "__main__":
    _serve()
