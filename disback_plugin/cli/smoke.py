"""`disback run CONFIG --smoke`: a config in small, then what a user does with its run."""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from disback_plugin.cli import inspect, path
from disback_plugin.errors import RunError

if TYPE_CHECKING:
    from disback_plugin.lab.config.experiment import ExperimentConfig

# Commands that follow on a smoke run, each with the module that has it; all must end with 0.
# {out}: the experiment's folder, {run}: that of its run, {work}: a folder for what they write.
FOLLOW_UPS: tuple[tuple[ModuleType, str], ...] = (
    (path, "path verify {run}/path"),
    (inspect, "inspect run:{out}"),
)


def smoke(config: "ExperimentConfig", folder: Path | None) -> int:
    """Run `config` in small into `folder` (None: a temporary one) and do what follows."""
    from disback_plugin.lab.smoke.run import smoke as run_small

    started = time.perf_counter()
    with _kept_or_temporary(folder) as where:
        done = run_small(config, where)
        work = where / "work"
        work.mkdir()
        for module, words in FOLLOW_UPS:
            given = [word.format(out=done.out, run=done.run, work=work) for word in words.split()]
            _follow_up(module, given)
    print(
        f"{config.name}: {done.num_nodes} nodes recorded and walked back, stopped after step "
        f"{done.stopped_at} and resumed to the same bits, {len(FOLLOW_UPS)} commands on the run; "
        f"{time.perf_counter() - started:.0f} s"
    )
    print("random weights in the real formats: no number of this run means anything")
    return 0


@contextmanager
def _kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="disback-smoke-") as made:
            yield Path(made)
        return
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty: a smoke run needs a folder of its own (--out)")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder.absolute()


def _follow_up(module: ModuleType, words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="disback")
    module.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(words)
    if code := args.command(args):
        raise RunError(f"`disback {' '.join(words)}` ended with exit code {code}")
