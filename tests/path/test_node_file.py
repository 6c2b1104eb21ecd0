"""A node's file: plain safetensors, sealed by its header, read and verified in parts."""

import base64
import hashlib
import json
import math
import os
import sys
import threading

import pytest
import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from disback_plugin import DegradationPath
from disback_plugin.errors import PathError
from disback_plugin.path import measure_precision, node_file
from disback_plugin.path.node_file import CHUNK, DIGESTS, NodeFile, write_whole
from tests.path.folders import edit
from tests.toy import same

WIDTH = CHUNK // 4  # float32 values of a chunk


def table():
    generator = torch.Generator().manual_seed(0)
    return {
        "b": torch.randn(3 * WIDTH + 5, generator=generator),
        "a": torch.randn(7, 3, generator=generator).bfloat16(),
        "empty": torch.zeros(0, 4),
        "count": torch.tensor(3),
        "flags": torch.tensor([True, False, True]),
    }


@pytest.fixture
def file(tmp_path):
    return tmp_path / "node.safetensors"


def test_any_reader_of_safetensors_reads_it(file):
    tensors = table()
    seal = write_whole(file, tensors)
    assert same(load_file(file), tensors)
    content = file.read_bytes()
    assert len(content) == seal.bytes
    assert hashlib.sha256(content[: seal.header]).hexdigest() == seal.sha256
    with safe_open(file, framework="pt") as stream:
        assert set(stream.keys()) == set(tensors)


def test_a_part_is_verified_alone(file):
    tensors = table()
    seal = write_whole(file, tensors)
    node = NodeFile(file, seal.header, seal.sha256)
    before = node.verified
    part = node.part("b", WIDTH + 1, 2 * WIDTH)
    assert torch.equal(part, tensors["b"][WIDTH + 1 : 2 * WIDTH])
    assert node.verified - before == CHUNK
    assert node.part("b", 4, 4).numel() == 0
    for _ in range(2):  # every byte is looked at once
        assert same({name: node.read(name) for name in tensors}, tensors)
        assert node.verified == seal.bytes


def test_a_flip_is_an_error_of_who_reads_it(file):
    tensors = table()
    seal = write_whole(file, tensors)
    content = bytearray(file.read_bytes())
    place = content.index(tensors["b"].numpy().tobytes()) + 2 * CHUNK
    content[place] ^= 1
    file.write_bytes(content)
    node = NodeFile(file, seal.header, seal.sha256)
    assert torch.equal(node.part("b", 0, 2 * WIDTH), tensors["b"][: 2 * WIDTH])
    with pytest.raises(PathError, match=rf"{file.name} is damaged.*'b', bytes from {2 * CHUNK:,}"):
        node.part("b", 2 * WIDTH - 1, 2 * WIDTH + 1)


def test_a_flip_in_the_header_is_an_error_at_once(file):
    seal = write_whole(file, table())
    content = bytearray(file.read_bytes())
    content[seal.header - 1] ^= 1  # of the blanks that fill it up
    file.write_bytes(content)
    with pytest.raises(PathError, match="is damaged.*its header"):
        NodeFile(file, seal.header, seal.sha256)


@pytest.mark.parametrize("version", [1, 2])
def test_a_path_of_an_earlier_version_is_read_verified_and_goes_on(
    tmp_path, codec, teacher, nodes, version
):
    path = DegradationPath.create(tmp_path / "path", teacher, codec=codec)
    path.append(nodes[0], step=1)
    decoded = path.read(1)
    _as_version(version, path.folder)
    old = DegradationPath.open(path.folder, teacher)
    assert old.manifest.format_version == version
    assert same(old.read(1), decoded)
    assert old.verify() == []
    old.append(nodes[1], step=2)
    again = DegradationPath.open(path.folder, teacher)
    assert (again.manifest.format_version, len(again), again.verify()) == (3, 2, [])
    assert same(again.read(1), decoded)
    file = path.folder / "node_0001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    assert "node_0001.safetensors is damaged" in again.verify()[0]


def _as_version(version, folder):
    file = folder / "node_0001.safetensors"
    if version == 1:
        save_file(load_file(file), file)
        sealed = file.read_bytes()
    else:
        sealed = _with_sha256_of_chunks(file)
    whole = {"bytes": file.stat().st_size, "sha256": hashlib.sha256(sealed).hexdigest()}

    def change(data):
        data["format_version"] = version
        data["nodes"][0].update(whole, header=len(sealed))
        if version == 1:
            del data["teacher"]["header"], data["nodes"][0]["header"]

    edit(folder, change)


def _with_sha256_of_chunks(file):
    """Write the file's tensors as version 2 did; returns the header, which seals the rest."""
    return _rewritten(
        file, "sha256 of chunks", lambda chunk: hashlib.sha256(chunk).digest(), 1 << 16
    )


def _rewritten(file, kind, digest_of, size, **changes):
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header, data, digests = json.loads(content[8:end]), content[end:], b""
    del header["__metadata__"]
    for row in sorted(header.values(), key=lambda row: row["data_offsets"]):
        begin, stop = row["data_offsets"]
        for low in range(begin, stop, size):
            digests += digest_of(data[low : min(low + size, stop)])
    kept = {kind: base64.b64encode(digests).decode(), "chunk": str(size), **changes}
    text = json.dumps({"__metadata__": kept, **header}).encode()
    head = len(text).to_bytes(8, "little") + text
    file.unlink()  # who reads the old one goes on
    file.write_bytes(head + data)
    return head


def _opened(file, head):
    return NodeFile(file, len(head), hashlib.sha256(head).hexdigest())


@pytest.mark.parametrize("size", [1 << 12, 1 << 16, 1 << 24])
def test_the_size_of_a_chunk_is_the_headers(file, size):
    tensors = table()
    write_whole(file, tensors)
    node = _opened(file, _rewritten(file, DIGESTS, xxhash.xxh3_128_digest, size))
    before = node.verified
    node.part("b", 0, 1)
    assert node.verified - before == min(size, 4 * tensors["b"].numel())
    assert same({name: node.read(name) for name in tensors}, tensors)


@pytest.mark.parametrize("chunk", ["0", "2048", "65537", "33554432", "-65536", "64k", "9" * 5000])
def test_a_size_that_no_chunk_has_is_an_error(file, chunk):
    write_whole(file, table())
    head = _rewritten(file, DIGESTS, xxhash.xxh3_128_digest, CHUNK, chunk=chunk)
    with pytest.raises(PathError, match=rf"{file.name} has a chunk of '{chunk}' bytes, where"):
        _opened(file, head)


def test_checksums_of_another_kind_or_number_are_an_error(file):
    write_whole(file, table())
    head = _rewritten(file, "blake3 of chunks", xxhash.xxh3_128_digest, CHUNK)
    with pytest.raises(PathError, match=r"not known, of \['blake3 of chunks', 'chunk'\]"):
        _opened(file, head)
    head = _rewritten(file, DIGESTS, xxhash.xxh3_128_digest, CHUNK, chunk=str(CHUNK // 2))
    with pytest.raises(PathError, match="has 112 bytes of checksums for 10 chunks"):
        _opened(file, head)


def test_other_threads_run_while_a_chunk_is_hashed():
    hash_of, chunk = node_file._DIGEST_OF[DIGESTS], memoryview(bytes(CHUNK))
    started, seen = threading.Event(), threading.Event()
    before = sys.getswitchinterval()

    def work():
        started.set()
        for _ in range(20_000):
            hash_of(chunk)
            if seen.is_set():
                return
        missed.append(True)

    missed: list[bool] = []
    thread = threading.Thread(target=work)
    sys.setswitchinterval(1000)  # no thread has to make way for another
    try:
        thread.start()
        started.wait()
        seen.set()
        thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not missed


def test_a_file_system_that_takes_no_advice_is_written_to(file, monkeypatch):
    def refuse(*args):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(node_file, "_SMALL", 0)
    write_whole(file, table())
    assert same(load_file(file), table())


def test_figures_are_those_of_float64_over_many_chunks():
    generator = torch.Generator().manual_seed(1)
    teacher = {
        "w": torch.randn(3, 70_000, generator=generator),
        "mask": torch.full((9,), -torch.inf),
    }
    node = {"w": teacher["w"].clone(), "mask": teacher["mask"].clone()}
    node["w"][0] += 1e-3 * torch.randn(70_000, generator=generator)
    found = measure_precision(node, teacher)
    exact, base = node["w"].double(), teacher["w"].double()
    rough, rough_base = node["w"].bfloat16().double(), teacher["w"].bfloat16().double()
    assert found.distance == pytest.approx(float((exact - base).norm() / base.norm()), rel=1e-6)
    cast = float((rough - rough_base).norm() / rough_base.norm())
    assert found.bf16_distance == pytest.approx(cast, rel=1e-6)
    survivors = float((rough != rough_base).sum() / (exact != base).sum())
    assert found.bf16_survives == pytest.approx(survivors)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_figures_of_very_small_and_large_weights_are_exact(scale):
    teacher = {"w": torch.tensor([3.0, 4.0]) * scale}
    node = {"w": torch.tensor([3.0, 4.5]) * scale}
    assert measure_precision(node, teacher).distance == pytest.approx(0.1, rel=1e-6)


def test_ranks_that_each_read_their_part_read_one_node_in_all(tmp_path):
    generator = torch.Generator().manual_seed(2)
    teacher = {f"{n}": torch.randn(300, 1000, generator=generator) for n in range(6)}
    node = {name: value + 1 for name, value in teacher.items()}
    path = DegradationPath.create(tmp_path / "path", teacher)
    size = path.append(node, step=1).bytes
    total = sum(value.numel() for value in teacher.values())
    for rank in range(4):  # flat shards, as FullyShardedDataParallel cuts them
        stored, begin = path.open_node(1), 0
        for name, value in node.items():
            low, high = (
                min(max(edge * total // 4 - begin, 0), value.numel()) for edge in (rank, rank + 1)
            )
            assert torch.equal(stored.flat(name)(low, high), value.view(-1)[low:high])
            begin += value.numel()
        assert size / 4 <= stored.file.verified <= 1.05 * size / 4


def test_what_a_rank_does_not_read_is_not_its_error(path, codec):
    file = path.folder / "node_0001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # of the tensor that lies last
    file.write_bytes(content)
    stored = path.open_node(1)
    last = max(stored, key=lambda name: (-stored.file.mapped[name].element_size(), name))
    stored.verify({name: (0, math.prod(stored.shapes[name])) for name in stored if name != last})
    assert last in stored
    with pytest.raises(PathError, match="is damaged"):
        stored.verify()
    with pytest.raises(PathError, match="is damaged"):
        stored[last]
