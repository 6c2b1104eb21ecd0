"""`disback run CONFIG --smoke`: a config in small, then what a user does with its run."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from disback_plugin.cli import evaluate, export, inspect, path, sample, tables
from disback_plugin.cli.parser import Parser
from disback_plugin.errors import RunError

if TYPE_CHECKING:
    from disback_plugin.lab.config.experiment import ExperimentConfig

# Commands that follow on a smoke run; all must end with 0. {out}: the experiment's folder, {run}:
# its run's, {standins}: what stands in for files, {work}: a folder for what they write.
CHECKS = ("path verify {run}/path", "inspect run:{out}")
# of students that make images; the numbers are distances of pixels to the student's own samples
IMAGES = (
    "sample run:{run} --seeds 8-15 --out {work}/other{prompts}",
    "sample run:{run} --seeds 0-7 --out {work}/samples{prompts}",
    "eval {work}/other{measured} --make-reference {work}/other.safetensors",
    "eval {work}/samples{measured} --reference {work}/other.safetensors{cell}",
    "export run:{run} --as {form} --out {work}/export",
    "tables --results {work} --smoke --out {work}/tables",
)
# of students that were kept on the way
KEPT = (
    "eval {run}{measured} --reference {work}/other.safetensors --every{prompts} --out {work}/kept"
)
_MODULES = {"path": path, "inspect": inspect, "sample": sample, "eval": evaluate} | {
    "export": export,
    "tables": tables,
}
# named otherwise than cells are
_CELLS = {
    **{"sdxl-one_step": "sdxl/coco", "sdxl-one_gpu": "sdxl/coco"},
    "lcm_lora-lcm_lora": "lcm/coco",
}


def follow_ups(config: "ExperimentConfig") -> list[str]:
    """What a user does with a run of `config`, as command lines with places to fill."""
    from disback_plugin.lab.tables.cells import CELLS

    kind = config.problem.kind
    if kind == "gaussians":
        return [*CHECKS]
    cell = CELLS.get(_CELLS.get(config.name, config.name.replace("-", "/", 1)))
    places = {
        "prompts": " --prompts {standins}/prompts.txt" if kind == "prompts" else "",
        "measured": f" --protocol {cell.protocol if cell else 'edm'} --features pixels "
        "--numbers fid --smoke",
        "cell": f" --cell {cell.name}" if cell else "",
        "form": _form(config),
    }
    kept = {name: f"{{{name}}}" for name in ("run", "work", "out", "standins")}
    lines = [*IMAGES, *([KEPT] if config.checkpoint.keep_students else [])]
    return [*CHECKS, *(line.format(**places, **kept) for line in lines)]


def _form(config: "ExperimentConfig") -> str:
    """In which the student is exported."""
    if config.lora is not None:
        return "lora"
    kind = (config.teacher.checkpoint or "").partition(":")[0]
    if config.problem.kind == "prompts":
        return "bin"
    return "diffusers" if kind in ("diffusers", "cm") else "safetensors"


def smoke(config: "ExperimentConfig", folder: Path | None) -> int:
    """Run `config` in small into `folder` (None: a temporary one) and do what follows."""
    from disback_plugin.lab.smoke.run import smoke as run_small

    started = time.perf_counter()
    with _kept_or_temporary(folder) as where:
        done = run_small(config, where)
        work = where / "work"
        work.mkdir()
        places = {"out": done.out, "run": done.run, "standins": where / "standins", "work": work}
        commands = follow_ups(config)
        for line in commands:
            _follow_up([word.format(**places) for word in line.split()])
    print(
        f"{config.name}: {done.num_nodes} nodes recorded and walked back, stopped after step "
        f"{done.stopped_at} and resumed to the same bits, {len(commands)} commands on the run; "
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


def _follow_up(words: list[str]) -> None:
    module = _MODULES[words[0]]
    parser = Parser(prog="disback")
    module.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(words)
    if code := args.command(args):
        raise RunError(f"`disback {' '.join(words)}` ended with exit code {code}")
