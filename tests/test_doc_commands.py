"""Every command that README and docs/ show is run, with small inputs in the place of those named.

CASES has each shown command: what stands in for its words and what is added to it, or the test
elsewhere that runs it, where it takes a host's checkout or a whole environment.
"""

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from disback_plugin.adapters.support import SUPPORT
from disback_plugin.cli.main import main
from disback_plugin.lab.smoke.standins import stand_in
from tests.lab.trainer.checkpoint_cases import write_files
from tests.lab.trainer.conftest import fresh_accelerate
from tests.test_readme import blocks

__all__ = ["fresh_accelerate"]

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SMALL = "distill.num_steps=12 teacher.training.num_steps=2 evaluation.num_samples=20 "
SMALL += "evaluation.every=12 checkpoint.every=12 logging.progress=false"
SMALL_EDM = "distill.num_steps=12 distill.batch_size=2 teacher.num_sampling_steps=2 device=cpu "
SMALL_EDM += "evaluation.num_samples=8 evaluation.num_probed=4 evaluation.batch_size=4 "
SMALL_EDM += "evaluation.every=12 num_threads=1 logging.progress=false "
SMALL_EDM += (
    "checkpoint.every=4 checkpoint.keep_students=4 'disback.record={num_steps: 4, every: 1}' "
)
SMALL_EDM += "'disback.schedule={name: per-node, intervals: [1, 1, 1]}'"
PIXELS = "--features pixels --numbers fid --smoke --device cpu"
REFERENCE = "reference.safetensors"
RUN = "runs/edm-ffhq64/runs/disback-seed0"


@dataclass(frozen=True, kw_only=True)
class Case:
    """words: what stands in the place of which shown word. more: what follows the command.

    by: the test that runs it, as `file::name`, where it is not run here.
    """

    words: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    by: str = ""


def instead(words: Mapping[str, str], more: str = "") -> Case:
    return Case(words=words, more=more)


def by(test: str) -> Case:
    return Case(by=test)


FEW = {"0-49999": "0-3", "0-149999": "0-3"}
APPLIED = "tests/adapters/test_patches.py::test_all_patches_apply_and_revert_restores_every_byte"
SDXL_FORM = "tests/lab/export/test_forms.py::test_an_export_is_sampled_as_its_source"
CASES = {
    "make demo": by(
        "tests/cli/test_cli.py::test_the_demo_settings_are_valid_and_a_short_demo_runs"
    ),
    "make test": by("tests/test_doc_commands.py::test_make_runs_what_it_says"),
    "disback demo": by(
        "tests/cli/test_cli.py::test_the_demo_settings_are_valid_and_a_short_demo_runs"
    ),
    "disback dmd2 apply DMD2": by(APPLIED),
    "disback diff-instruct apply diff_instruct": by(APPLIED),
    "disback swiftbrush apply SwiftBrush": by(APPLIED),
    "disback dmd2 status DMD2": by(APPLIED),
    "disback diff-instruct status diff_instruct": by(APPLIED),
    "disback swiftbrush status SwiftBrush": by(APPLIED),
    "cd DMD2 && PYTHONPATH=. torchrun main/train_sd.py": by(
        "tests/adapters/dmd2/test_runs.py::test_every_log_has_stage_and_node"
    ),
    "torchrun train.py": by(
        "tests/adapters/fastgen/test_runs.py::test_two_processes_walk_together"
    ),
    "$ python examples/modelopt_dmd/train.py": by(
        "tests/adapters/modelopt/test_example.py::test_a_killed_run_goes_on_and_exports_the_same_student"
    ),
    "python -m benchmarks.sdxl_size": by(
        "tests/test_benchmarks.py::test_the_report_says_what_holds_and_what_is_broken"
    ),
    "python -m benchmarks.sdxl_size --size sdxl --device cuda --repeats 2": by(
        "tests/test_benchmarks.py::test_the_report_says_what_holds_and_what_is_broken"
    ),
    # an experiment
    "disback run experiments/digits/ddpm.yaml": instead({}, f"{SMALL} --jobs 1 --out digits"),
    "disback run experiments/edm/ffhq64.yaml --smoke": instead({}),
    "disback run experiments/edm/ffhq64.yaml --arm disback": instead({}, f"{SMALL_EDM} --out ffhq"),
    "disback run experiments/cifar16/edm.yaml teacher=run:runs/cifar16-edm distill.num_steps=80 "
    "distill.student_lr=2e-3 distill.fake_lr=1e-3 evaluation.every=8 evaluation.num_samples=500 "
    "evaluation.num_probed=256 logging.every=4 --arm fixed --seeds 1 "
    "--out runs/c16/health-good": by(
        "tests/experiments/test_cifar16.py::test_a_teacher_is_trained_once_and_compared_with"
    ),
    "disback status runs/digits-ddpm": instead({}),
    "disback report runs/digits-ddpm": instead({}),
    "disback report runs/a runs/b --out both --csv both": instead({}),
    "disback compare experiments/gaussians/near.yaml --seeds 36": instead(
        {"36": "2"}, f"{SMALL} --arms fixed,disback --out compared"
    ),
    "disback path show|verify|repair PATH": instead({"PATH": f"{RUN}/path"}),
    "disback path convert SRC DST --codec bounded": instead(
        {"SRC": f"{RUN}/path", "DST": "bounded"}
    ),
    "disback path import FOLDER --teacher T --out PATH": by(
        "tests/adapters/dmd2/test_published.py::test_the_command_imports_and_shows_the_path"
    ),
    # its student
    "disback sample run:RUN --seeds 0-49999 --out FOLDER": instead(
        {**FEW, "run:RUN": f"run:{RUN}", "FOLDER": "sampled"}
    ),
    f"disback sample run:{RUN} --seeds 0-149999 --out results/edm-ffhq64": instead(
        {**FEW, "results/edm-ffhq64": "made/edm-ffhq64"}
    ),
    "disback sample run:runs/ffhq64/runs/disback-seed0 --seeds 0-49999 --out "
    "samples/ffhq64": instead(
        {**FEW, "run:runs/ffhq64/runs/disback-seed0": f"run:{RUN}", "samples/ffhq64": "made/ffhq64"}
    ),
    "disback sample edm-pkl:network-snapshot-000500.pkl --sigma 1.0 --seeds 0-49999 "
    "--out ffhq64.npz": instead(FEW),
    "disback sample cm:cd_imagenet64_lpips.pt --labels balanced --seeds 0-49999 --out "
    "cd.zip": instead(FEW, "resolution=8 num_head_channels=16"),
    "disback sample weights:student.bin base=diffusers:SDXL --timestep 399 --prompts coco10k.txt "
    "--seeds 0-9999 --out coco": by("tests/lab/sampling/test_hosts.py::test_dmd2s_sdxl_student"),
    "disback export run:RUN --as safetensors --out FOLDER": instead(
        {"run:RUN": f"run:{RUN}", "FOLDER": "exported"}
    ),
    "disback export run:runs/ffhq64/runs/disback-seed0 --as safetensors --out "
    "ffhq64-1step": instead({"run:runs/ffhq64/runs/disback-seed0": f"run:{RUN}"}),
    "disback export run:runs/sdxl/runs/disback-seed0 --as bin --dtype fp16 --out sdxl-1step": by(
        SDXL_FORM
    ),
    "disback export run:runs/sdxl/runs/disback-seed0 --as diffusers --out sdxl-1step-pipeline": by(
        SDXL_FORM
    ),
    "disback export run:runs/cd-imagenet64/runs/disback-seed0 --as diffusers --out "
    "imagenet64-1step": by(SDXL_FORM),
    # its numbers
    "disback eval SAMPLES --protocol edm --reference FILE.npz": instead(
        {"SAMPLES": "samples", "FILE.npz": REFERENCE}, PIXELS
    ),
    "disback eval results/edm-ffhq64 --protocol edm --reference weights/ffhq-64x64.npz --networks "
    "weights --cell edm/ffhq64": instead({"weights/ffhq-64x64.npz": REFERENCE}, PIXELS),
    "disback eval samples/ --protocol edm --reference ffhq-64x64.npz --networks networks/": instead(
        {"ffhq-64x64.npz": REFERENCE}, f"{PIXELS} --out again.json"
    ),
    "disback eval samples.npz --protocol adm --reference VIRTUAL_imagenet64_labeled.npz": instead(
        {"VIRTUAL_imagenet64_labeled.npz": "adm.safetensors"}, PIXELS
    ),
    "disback eval coco2014/ --protocol coco-512 --make-reference coco-512.safetensors": instead(
        {"coco-512.safetensors": "made-coco.safetensors"}, PIXELS
    ),
    "disback eval samples/ --protocol coco-512 --reference coco-512.safetensors "
    "--prompts coco10k.txt": instead({}, PIXELS),
    "disback eval runs/ffhq --protocol edm --reference ffhq-64x64.npz --every": instead(
        {"runs/ffhq": "runs/edm-ffhq64", "ffhq-64x64.npz": REFERENCE}, PIXELS
    ),
    "disback tables --results FOLDER": instead({"FOLDER": "results"}, "--smoke"),
    "disback tables --results results/ --out tables/": instead({}, "--smoke"),
    # files
    "disback inspect edm-pkl:FILE": instead({"edm-pkl:FILE": "edm-pkl:edm.pkl"}),
    "disback inspect edm-pkl:edm-imagenet-64x64-cond-adm.pkl": instead({}),
    "disback inspect cm:cd_imagenet64_l2.pt": instead({}, "resolution=8 num_head_channels=16"),
    "disback inspect diffusers:google/ddpm-cifar10-32": instead(
        {"diffusers:google/ddpm-cifar10-32": "diffusers:ddpm"}
    ),
    "disback inspect run:runs/digits-edm": instead({"run:runs/digits-edm": "run:runs/a"}),
    "disback convert edm-pkl IN OUT.safetensors": instead({"IN": "edm.pkl"}),
    "disback data lmdb SOURCE OUT": instead({"SOURCE": "samples", "OUT": "made-lmdb"}),
    "disback adapters": instead({}),
    "disback completion bash": instead({}),
    "disback doctor --disk runs": instead({}),
}
HERE = [command for command, case in CASES.items() if not case.by]


def shown() -> dict[str, str]:
    """Every command in a block of README or docs/, without its comment, and the page it is on."""
    found = {}
    for page in PAGES:
        for block in blocks("", page):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                command = re.split(r"\s{2,}|\s#", line.strip())[0]
                if command.startswith(("disback ", "make ", "python ", "$ ", "cd ", "torchrun ")):
                    found[_short(command)] = page.name
    return found


def _short(command: str) -> str:
    """A host's own launch, by its script alone: the rest is the host's, and the flags of ours."""
    found = re.match(r"((?:cd DMD2 && PYTHONPATH=\. )?torchrun) .*?(\S+\.py)\b", command)
    return f"{found[1]} {found[2]}" if found else command


def test_every_command_that_is_shown_has_its_case_and_no_case_is_left_over() -> None:
    assert {command: page for command, page in shown().items() if command not in CASES} == {}
    assert CASES.keys() - shown().keys() == set()


@pytest.mark.parametrize("test", sorted({case.by for case in CASES.values() if case.by}))
def test_what_is_run_elsewhere_is_run_there(test: str) -> None:
    file, name = test.split("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_make_runs_what_it_says() -> None:
    rules = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo: .*\n\t\$\(BIN\)/disback demo --out out/demo --resume$", rules, re.M)
    assert re.search(r"^test: .*\n\t\$\(BIN\)/python -m pytest", rules, re.M)


def test_clones_are_of_the_releases_that_were_run_and_installs_name_extras() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    clones = re.findall(r"git clone \S+/(\w+) && git -C (\w+) checkout (\w+)", text)
    releases = {support.release for support in SUPPORT}
    assert {name for name, _, _ in clones} == {"DMD2", "diff_instruct", "SwiftBrush"}
    assert all(name == folder and commit in releases for name, folder, commit in clones)
    extras = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    named = re.findall(r"(?:disback_plugin|'\.)\[([\w,-]+)\]", text)
    assert {extra for one in named for extra in one.split(",")} <= set(extras)
    assert len(named) >= 4


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the commands name, in small: runs, checkpoints, samples, references."""
    folder, before = tmp_path_factory.mktemp("work"), Path.cwd()
    os.chdir(folder)
    (folder / "experiments").symlink_to(ROOT / "experiments")
    write_files(folder)
    for published in ("weights/edm-ffhq-64x64-uncond-vp.pkl", "edm-imagenet-64x64-cond-adm.pkl"):
        stand_in(f"edm-pkl:{published}", {}, folder / Path(published).parent)
    for published in ("cd_imagenet64_lpips.pt", "cd_imagenet64_l2.pt"):
        stand_in(f"cm:{published}", {}, folder)
    shutil.copy("weights/edm-ffhq-64x64-uncond-vp.pkl", "network-snapshot-000500.pkl")
    (folder / "coco10k.txt").write_text("a cat\n" * 8)
    run("run experiments/gaussians/near.yaml", f"{SMALL} --jobs 1 --out runs/a")
    for name in ("runs/b", "runs/digits-ddpm"):
        shutil.copytree("runs/a", name)
    run("run experiments/edm/ffhq64.yaml --arm disback", f"{SMALL_EDM} --out runs/edm-ffhq64")
    run(f"sample run:{RUN} --seeds 0-7 --out samples")
    shutil.copytree("samples", "results/edm-ffhq64")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    np.savez("samples.npz", arr_0=pixels)
    np.savez("real.npz", arr_0=pixels[::-1])
    shutil.copytree("samples", "coco2014")
    references = {"edm": REFERENCE, "adm": "adm.safetensors", "coco-512": "coco-512.safetensors"}
    for protocol, name in references.items():
        run(f"eval real.npz --protocol {protocol} --make-reference {name}", PIXELS)
    yield folder
    os.chdir(before)


def run(command: str, more: str = "") -> None:
    words = shlex.split(f"{command} {more}")
    assert main(words) == 0, command


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.xdist_group("doc_commands")
@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("command", HERE)
def test_a_command_that_is_shown_runs(work: Path, command: str) -> None:
    case = CASES[command]
    for action in re.findall(r"\w+(?=\|)|(?<=\|)\w+", command) or [""]:
        words = shlex.split(re.sub(r"\w+(\|\w+)+", action, command))
        words = [case.words.get(word, word) for word in words]
        assert case.words.keys() - FEW.keys() <= set(shlex.split(command))
        assert main([*words[1:], *shlex.split(case.more)]) == 0


@pytest.mark.thorough
@pytest.mark.xdist_group("doc_commands")
@pytest.mark.parametrize("page", ["files.md", "sampling-and-export.md", "teachers.md"])
def test_a_snippet_of_the_docs_runs(work: Path, page: str) -> None:
    (code,) = blocks("python", ROOT / "docs" / page)
    small = code.replace("0-49999", "0-3").replace("ffhq64.npz", "snippet.npz")
    small = small.replace("runs/path", f"{RUN}/path")
    small = small.replace("edm-cifar10-32x32-cond-vp", "weights/edm-ffhq-64x64-uncond-vp")
    small = small.replace("stable-diffusion-v1-5/stable-diffusion-v1-5", "sd")
    assert small != code
    names = {"x": torch.zeros(2, 3, 8, 8), "sigma": torch.ones(2), "labels": None}
    exec(compile(small, page, "exec"), names)
