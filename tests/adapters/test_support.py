"""The support table tells what the table of host cases runs, and README shows that table."""

from importlib.metadata import PackageNotFoundError
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import diff_instruct_patches
import dmd2_patches
import swiftbrush_patches
from disback_plugin import list_adapters
from disback_plugin.adapters import support
from disback_plugin.adapters.support import SUPPORT, markdown, support_of
from disback_plugin.cli import main
from tests.adapters import launching
from tests.adapters.cases import CASES

ROOT = Path(__file__).parents[2]
hosts = pytest.mark.parametrize("host", SUPPORT, ids=lambda host: host.cases)


@hosts
def test_what_was_run_is_what_the_cases_run(host: support.Support) -> None:
    cases = [case for case in CASES if case.host == host.cases and case.real]
    options = [case.options for case in cases]
    assert host.processes == max(case.num_processes for case in cases)
    assert host.fsdp == any(case.shard_from for case in cases)
    in_bf16 = (case.dtype == torch.bfloat16 or "bf16" in case.options for case in cases)
    assert host.bf16 == any(in_bf16)
    has_lora_base = host.cases == "swiftbrush"  # teacher and fake score are one base with a LoRA
    assert host.lora == (has_lora_base or any("lora" in words for words in options))


def test_every_host_of_the_cases_and_every_adapter_of_ours_is_in_the_table() -> None:
    assert {host.cases for host in SUPPORT} == {case.host for case in CASES}
    ours = {name for host in SUPPORT for name in host.adapters}
    assert ours <= set(list_adapters())
    assert support_of("generic") is None
    assert set(list_adapters()) - ours == {"generic"}


def test_nothing_was_run_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The runs of the cases see none: whoever lets them, changes this and the table."""
    seen = []
    server = SimpleNamespace(stdin=StringIO(), stdout=StringIO("[0]"), communicate=lambda: None)

    def popen(*args: object, env: dict[str, str], **kwargs: object) -> SimpleNamespace:
        seen.append(env["CUDA_VISIBLE_DEVICES"])
        return server

    monkeypatch.setattr(launching.subprocess, "Popen", popen)
    assert launching.Server().launch("no.driver", tmp_path / "jobs.json", []) == [0]
    assert seen == [""]
    assert not any(host.gpu for host in SUPPORT)


def test_releases_are_the_pins() -> None:
    pins = (ROOT / "third_party" / "README.md").read_text()
    for patches in (dmd2_patches, diff_instruct_patches, swiftbrush_patches):
        assert patches.COMMIT in {host.release for host in SUPPORT}
    for host in SUPPORT:
        assert f"| {host.release} |" in pins, host.title


def test_the_readme_holds_the_generated_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed == markdown()
    assert f"\n\n{printed}\n" in (ROOT / "README.md").read_text()


def test_the_command_says_what_is_here_and_what_was_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "nvidia-modelopt":
            return "0.99.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(support, "version", version)
    assert main(["adapters"]) == 0
    blocks = capsys.readouterr().out
    assert (
        "    student     feedforward_model\n"
        "    found       a checkout: `disback dmd2 status CHECKOUT` tells\n"
        "    supported   that commit; another with --force, patch by patch\n"
        "    run         8d8fa55: 1 and 2 processes, FSDP, bf16, LoRA; not: GPU\n"
    ) in blocks
    assert "    found       nvidia-modelopt 0.99.0\n" in blocks
    assert "    run         0.47.0: 1 and 2 processes, FSDP, bf16; not: LoRA, GPU\n" in blocks
    assert "    student     roles['student']\n\n" not in blocks
    monkeypatch.setattr(support, "find_spec", lambda name: None)
    assert main(["adapters"]) == 0
    assert "    found       no fastgen that can be imported here\n" in capsys.readouterr().out
