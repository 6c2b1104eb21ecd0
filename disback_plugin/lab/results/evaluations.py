"""Results of `disback eval`: numbers, and everything that they depend on, in sealed JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.sealed import damage_of, read_sealed, write_sealed

FORMAT, CURVES = "disback-eval", "disback-eval-curves"
NAME = "eval-"  # in the names of such files: SAMPLES.eval-PROTOCOL.json
AGAIN = "restore it, or evaluate the samples again"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """ranges: by range of seeds (or "all"), the numbers of each. numbers: of the best range.

    smoke: made by stand-ins, or of too few images: it never stands in a table's cell unmarked.
    summary: mean, spread (standard deviation) and minimum of each number over the ranges.
    samples, reference, network: names and digests. cell: of which table, if it is for one.
    """

    protocol: str
    numbers: Mapping[str, float]
    ranges: Mapping[str, Mapping[str, float]]
    summary: Mapping[str, Mapping[str, float]]
    num_images: int
    smoke: bool
    pixels: str
    samples: Mapping[str, Any]
    reference: Mapping[str, Any]
    network: Mapping[str, Any]
    remarks: tuple[str, ...] = ()
    cell: str | None = None
    versions: Mapping[str, str | None] = field(default_factory=dict)


def write_evaluation(file: Path, evaluation: Evaluation) -> None:
    """Replace `file`, atomically."""
    write_sealed(file, {"format": FORMAT, **asdict(evaluation)})


def read_evaluation(file: Path) -> Evaluation:
    """What `write_evaluation` wrote; RunError for anything else."""
    data = read_sealed(file, RunError, AGAIN)
    with damage_of(file, RunError, AGAIN):
        if data.pop("format") != FORMAT:
            raise ValueError("it is no result of `disback eval`")
        data["remarks"] = tuple(data["remarks"])
        return Evaluation(**data)


def write_curves_of(file: Path, curves: Mapping[str, Any]) -> None:
    """A number over training, of all runs of an experiment, and what thresholds cost."""
    write_sealed(file, {"format": CURVES, **curves})


def find_results(folder: Path) -> Iterator[tuple[Path, Evaluation | dict[str, Any]]]:
    """All evaluations, and curves as plain data, in `folder` and below; RunError if damaged."""
    for file in sorted(folder.rglob(f"*{NAME}*.json")):
        data = read_sealed(file, RunError, AGAIN)
        yield file, data if data.get("format") == CURVES else read_evaluation(file)
