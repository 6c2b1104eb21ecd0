"""A killed `disback sample` goes on: what is finished stays, what is torn is made again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from disback_plugin.cli import main
from disback_plugin.errors import DataError, RunError
from disback_plugin.lab.sampling import Plan, Seeds, sample
from disback_plugin.lab.sampling.plan import SampledStudent, difference
from disback_plugin.lab.trainer.run_folder import lock
from tests.lab.sampling.conftest import Make
from tests.lab.sampling.test_images import images_in
from tests.ranks import on_ranks

ROOT = Path(__file__).parents[3]
# dies as the seventh image is to be written; images are written one after the other
KILLED = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from disback_plugin.lab.sampling import store
from disback_plugin.cli import main

written, original = [], os.replace
def replace(source, target):
    if str(target).endswith(".png"):
        if len(written) == 6:
            os.kill(os.getpid(), 9)
        written.append(target)
    original(source, target)
store.os.replace = replace
store.MAX_WORKERS = 1
sys.exit(main(sys.argv[1:]))
"""


def killed(*words: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, "sample", *words]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def words(edm: Path, out: Path) -> list[str]:
    return [f"edm-pkl:{edm}", "--sigma", "80", "--seeds", "0-9", "--batch", "2", "--out", str(out)]


@pytest.mark.slow
def test_a_kill_repeats_no_finished_image(sampler: Make, edm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert killed(*words(edm, out)) == -9
    assert not out.exists()
    part = tmp_path / "out.part" / "images"
    before = {file.name: file.stat().st_mtime_ns for file in part.glob("0*.png")}
    assert len(before) == 6
    (part / "000001.png").write_bytes((part / "000001.png").read_bytes()[:-20])
    sample(sampler(), out, 2)
    sample(sampler(), tmp_path / "whole", 2)
    whole, found = images_in(tmp_path / "whole"), images_in(out)
    assert {seed: image.tobytes() for seed, image in found.items()} == {
        seed: image.tobytes() for seed, image in whole.items()
    }
    kept = {name for name, time in before.items() if (out / name).stat().st_mtime_ns == time}
    assert kept == set(before) - {"000001.png"}
    assert not (tmp_path / "out.part").exists()


@pytest.mark.slow
def test_two_processes_make_the_same_images(sampler: Make, edm: Path, tmp_path: Path) -> None:
    on_ranks(main, ["sample", *words(edm, tmp_path / "two")])
    sample(sampler(), tmp_path / "one", 2)
    one, two = images_in(tmp_path / "one"), images_in(tmp_path / "two")
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}
    assert len(two) == 10


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"disback_plugin.lab.sampling.run.{name}", stop)


@pytest.mark.parametrize("name", ["out", "out.npz", "out.zip"])
@pytest.mark.parametrize("place", ["write_grid", "pack", "remove"])
def test_a_stop_at_the_end_is_made_good(
    place: str, name: str, sampler: Make, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, place)
        sample(sampler("0-3"), tmp_path / name, 2)
    assert (tmp_path / name).exists() == (place == "remove")
    sample(sampler("0-3"), tmp_path / name, 2)
    beside = {"out": [], "out.npz": ["out.json"], "out.zip": []}[name]
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == sorted([name, *beside, "out.grid.png"])


def test_an_npz_is_never_there_without_its_record_whenever_it_is_stopped(
    sampler: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out.npz", os.replace

    for last in (out.with_suffix(".json"), out):

        def stop_after(source: str, target: Path, last: Path = last) -> None:
            real(source, target)
            if Path(target) == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", stop_after)
            sample(sampler("0-3"), out, 2)
        assert out.with_suffix(".json").exists()
    assert sample(sampler("0-3"), out, 2).count == 4


def test_a_file_where_the_record_of_an_npz_would_lie_is_left_alone(
    sampler: Make, tmp_path: Path
) -> None:
    (tmp_path / "out.json").write_text('{"mine": "dear"}')
    with pytest.raises(DataError, match=r"out\.json"):
        sample(sampler("0-3"), tmp_path / "out.npz", 2)
    assert (tmp_path / "out.json").read_text() == '{"mine": "dear"}'


def test_unfinished_images_of_another_plan_are_not_mixed_in(sampler: Make, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, "pack")
        sample(sampler("0-3"), tmp_path / "out", 2)
    with pytest.raises(DataError, match="out.part holds other images, unfinished"):
        sample(sampler("0-3", labels="balanced"), tmp_path / "out", 2)


def test_two_commands_do_not_write_one_place(sampler: Make, tmp_path: Path) -> None:
    held = lock(tmp_path / "out.part")
    with pytest.raises(RunError, match="is being written by another process"):
        sample(sampler("0-3"), tmp_path / "out", 2)
    held.lock.release()


def test_options_that_change_images_without_being_weights_are_part_of_a_plan() -> None:
    """FLUX.1-dev told of another guidance is the same network, and another student."""

    def plan(**options: object) -> Plan:
        level = {"sigma": 999.0, "noise": "unit"}
        said = {"spec": "diffusers:flux", "description": "", "sha256": "0" * 64, **level}
        student = SampledStudent(**said, options=options)
        return Plan(student=student, seeds=Seeds(first=0, last=1), shape=(8, 8, 3))

    told = plan(embedded_guidance=2.5, variant="fp16")
    assert difference(told, plan(embedded_guidance=2.5, variant=None)) is None
    assert "'embedded_guidance': 2.5" in str(difference(told, plan(embedded_guidance=3.5)))
    assert "'embedded_guidance': None" in str(difference(told, plan())).partition("now")[2]
    others = {"guidance_scale": 3.0, "negative_prompt": "ugly", "lcm": True, "nearest_t": False}
    for name, value in others.items():
        assert f"'{name}': {value!r}" in str(difference(plan(), plan(**{name: value})))
