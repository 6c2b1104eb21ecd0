"""Every file that a run resumes from: a flip is an error that names it, or changes nothing."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin import DegradationPath
from disback_plugin.adapters.overlay import side_file
from disback_plugin.errors import DisBackError
from tests.faults.flips import mutations
from tests.faults.zygote import Zygote

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forks"),
    pytest.mark.xdist_group("faults"),  # one run, one process that has imported all
]
WARM = ("torch._dynamo", "tests.faults.flips")
RUN = "runs/disback-seed0"
CHECKPOINT = f"{RUN}/checkpoints/step_000008"
FILES = [
    *("config.yaml", "experiment.json", "teacher/reference.json", "teacher/samples.safetensors"),
    *("teacher/teacher.safetensors", f"{RUN}/run.json", f"{RUN}/path/path.json"),
    *(f"{RUN}/path/{name}.safetensors" for name in ("node_0001", "node_0003", "teacher")),
    *(f"{CHECKPOINT}/{name}.json" for name in ("manifest", "state")),
    *(
        f"{CHECKPOINT}/{name}.safetensors"
        for name in (
            *("student", "student_ema", "student_optimizer"),
            *("fake_score", "fake_score_optimizer"),
        )
    ),
]
# read by people and reports, or by a resume from another file of the table: not by this one
OTHERS = (".lock", "metrics.jsonl", "/samples/", "teacher/checkpoints/", "step_000004", "node_0002")
LISTS = ("path.json", "manifest.json")  # a wrong digest in one is an error of the file listed
SAMPLE, ALL = (1, 0), (9, 4)  # flips a file: of numbers in its text, of other bytes


class Trial:
    """One run, resumed from many copies of its folder."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self.zygote, self.folder, self.template = zygote, folder / "work", folder / "template"
        self.zygote.run("tests.faults.flips:prepare", str(self.folder), warm=WARM)
        self.folder.rename(self.template)
        shutil.copytree(self.template, self.folder)
        self.end = self._resume()
        assert "error" not in self.end, self.end

    def wrong(self, file: str, content: bytes) -> str:
        """What is wrong with a resume from this content of the file; "" if nothing."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.template, self.folder)
        (self.folder / "out" / file).write_bytes(content)
        try:
            end = self._resume()
        except RuntimeError as error:
            return str(error)
        if "error" in end:
            named = file if Path(file).name not in LISTS else str(Path(file).parent)
            if named in end["error"]:
                return ""
            return f"the error does not name the file: {end['error']}"
        names = (end.keys() | self.end.keys()) - {Path(file).name}  # what is not read stays so
        other = sorted(name for name in names if end.get(name) != self.end.get(name))
        return f"another end, without a word: {other}" if other else ""

    def _resume(self) -> dict[str, str]:
        return self.zygote.run("tests.faults.flips:resume", str(self.folder), warm=WARM)


@pytest.fixture(scope="module")
def trial(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(zygote, tmp_path_factory.mktemp("flips"))


def fail_if(wrong: list[str]) -> None:
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)} flips:", *wrong[:8]]), pytrace=False)


def check(trial: Trial, file: str, flips: tuple[int, int]) -> None:
    data = (trial.template / "out" / file).read_bytes()
    fail_if(
        [
            f"{file}, {what}: {problem}"
            for what, content in mutations(data, *flips)
            if (problem := trial.wrong(file, content))
        ]
    )


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_is_named_or_changes_nothing(file: str, trial: Trial) -> None:
    check(trial, file, SAMPLE)


@pytest.mark.thorough
@pytest.mark.parametrize("file", FILES)
def test_any_damage_is_named_or_changes_nothing(file: str, trial: Trial) -> None:
    check(trial, file, ALL)


def test_every_file_of_a_run_is_in_the_table(trial: Trial) -> None:
    out = trial.template / "out"
    found = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert {name for name in found if not any(part in name for part in OTHERS)} == set(FILES)


class Session:
    """As much of a session as a side file takes."""

    installed_node = 2

    def state_dict(self) -> dict[str, Any]:
        progress = {"first_step": 0, "last_step": 11, "num_record_steps": 12}
        return {"version": 1, "progress": progress, "teacher": "0123abcd"}


def write_side_file(folder: Path) -> Path:
    side_file.write(folder, Session())  # type: ignore[arg-type]
    return folder / side_file.FILE_NAME


def write_rank_file(folder: Path) -> Path:
    side_file.write_ranks(folder / "ranks.safetensors", [{"noise": torch.arange(8.0)}])
    return folder / "ranks.safetensors"


def write_kept_teacher(folder: Path) -> Path:
    teacher = {"w": torch.arange(1.0, 9.0)}
    path = DegradationPath.create(folder, teacher, codec="delta", keep_teacher=True)
    path.append({"w": torch.ones(8)}, step=1)
    return folder / "teacher.safetensors"


def read_node(file: Path) -> list[float]:
    return DegradationPath.open(file.parent).read(1)["w"].tolist()


SIDE_FILES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "the session's state": (write_side_file, lambda file: vars(side_file.read(file.parent))),
    "a kept teacher": (write_kept_teacher, read_node),
    "the ranks' states": (
        write_rank_file,
        lambda file: {
            name: value.tolist() for name, value in side_file.read_own_rank(file).items()
        },
    ),
}


@pytest.mark.parametrize("kind", list(SIDE_FILES))
def test_a_side_file_of_an_overlay_is_whole_or_an_error(kind: str, tmp_path: Path) -> None:
    write, read = SIDE_FILES[kind]
    file = write(tmp_path)
    data, expected, wrong = file.read_bytes(), read(file), []
    for what, content in mutations(data, 100, 100):
        file.write_bytes(content)
        try:
            found = read(file)
        except DisBackError as error:
            if file.name not in str(error):
                wrong.append(f"{what}: the error does not name the file: {error}")
        except Exception as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}")
        else:
            if found != expected:
                wrong.append(f"{what}: read as {found}")
    fail_if(wrong)
