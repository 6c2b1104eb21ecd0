"""`disback doctor`: what is broken is told and is exit code 1; a machine without a GPU is whole.

No GPU is needed here: what CUDA would answer is put in its place.
"""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from disback_plugin.cli import doctor, doctor_gpu, main
from disback_plugin.cli.doctor_disk import BYTES, CHUNK, CHUNKS, Weights, disk, weights_of
from disback_plugin.path import get_codec


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without one; the folder of its commands."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that works; without NCCL's part."""
    told = SimpleNamespace(name="Test GPU", major=9, minor=0)
    for name, answer in {
        "is_available": True,
        "device_count": 1,
        "get_device_properties": told,
        "mem_get_info": (3 << 30, 4 << 30),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(doctor_gpu, "_product_error", lambda device: 0.001)
    monkeypatch.setattr(doctor_gpu, "_nccl", lambda: doctor_gpu.Found("NCCL 2.0: works"))


def test_a_machine_without_a_gpu_is_whole_and_told_so(
    no_gpu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "GPU: none that torch can use; what needs one was not tried" in shown
    assert f"torch {torch.__version__}, built for" in shown
    assert "broken" not in shown
    assert "modelopt " in shown  # the versions of the hosts


def test_a_gpu_that_torch_cannot_use_is_broken(
    no_gpu: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = no_gpu / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'Test GPU, 570.1'\n")
    command.chmod(0o755)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert main(["doctor"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("broken: GPU: Test GPU, 570.1 is there, but this torch has no CUDA")


def test_a_torch_that_cannot_be_imported_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor"]) == 1
    assert "broken: torch is installed, but cannot be imported" in capsys.readouterr().out


def test_a_gpu_that_works(one_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "GPU 0: Test GPU, 9.0, 4 GiB, 3 free, bfloat16 works\n" in shown
    assert "NCCL 2.0: works\n" in shown


@pytest.mark.parametrize("fails", ["wrong", "nan", "raises", "nccl"])
def test_what_does_not_work_is_broken(
    fails: str,
    one_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def product(device: torch.device) -> float:
        if fails == "raises":
            raise RuntimeError("CUDA error: unknown\nmore")
        return {"wrong": 0.5, "nan": float("nan")}.get(fails, 0.0)

    monkeypatch.setattr(doctor_gpu, "_product_error", product)
    if fails == "nccl":
        monkeypatch.undo()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    assert main(["doctor"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    expected = {"raises": "CUDA error: unknown", "nccl": "NCCL: this torch has none"}
    assert expected.get(fails, "off the CPU's") in last
    assert last.startswith("broken: ")


def test_the_product_is_right_where_the_arithmetic_is() -> None:
    assert 0 < doctor_gpu._product_error(torch.device("cpu")) < doctor_gpu.TOLERANCE


def test_bytes_are_those_of_the_codecs() -> None:
    teacher, node = torch.randn(2, 512, 1024)
    for name, each in BYTES.items():
        stored = get_codec(name).encode_tensor(node, teacher)
        size = stored.numel() * stored.element_size()
        assert size / node.numel() == pytest.approx(4 if each is None else each, rel=0.02), name


def test_the_disk_is_measured_left_clean_and_filled_with_nodes_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = SimpleNamespace(free=21_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    lines = [*disk(tmp_path / "new", Weights(numbers=250_000_000, bytes=1_000_000_000))]
    assert lines[0] == f"disk {tmp_path / 'new'}: 21.0 GB free"
    assert "MB/s, reads" in lines[1]
    # one teacher is kept beside the nodes
    assert lines[-3:] == [
        "nodes that fit in codec full: 20",
        "nodes that fit in codec delta: 40",
        "nodes that fit in codec bounded: 142",
    ]
    [*disk(tmp_path / "new" / "newer", None)]
    assert list(tmp_path.iterdir()) == []
    usage.free = CHUNK * CHUNKS
    assert "too little room" in [*disk(tmp_path, None)][1]


def test_a_disk_that_cannot_be_written_is_broken_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(doctor, "REQUIRED", ("no-such-package",))
    assert main(["doctor", "--disk", str(file)]) == 1
    shown, said = capsys.readouterr()
    assert "missing: no-such-package; run: pip install disback_plugin\n" in shown
    assert shown.splitlines()[-1].startswith(f"broken: disk {file}: ")
    assert "File exists" in shown
    assert said == ""


def test_weights_are_counted_by_their_headers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model" / "a.safetensors"
    file.parent.mkdir()
    save_file({"w": torch.zeros(3, 5), "s": torch.zeros((), dtype=torch.bfloat16)}, file)
    save_file({"v": torch.zeros(7)}, tmp_path / "model" / "b.safetensors", {"format": "pt"})
    assert weights_of(file) == (16, 62)
    assert weights_of(file.parent) == (23, 90)
    file.write_bytes(b"no weights at all")
    assert main(["doctor", "--teacher", str(file)]) == 2
    assert "a.safetensors" in capsys.readouterr().err
    assert main(["doctor", "--teacher", str(tmp_path / "none")]) == 2
