"""Whatever bytes come, the reader soon ends in a checkpoint or a CheckpointError; nothing runs."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pickles import Name, dump, edm_file, stored
from disback_plugin.pretrained.edm.checkpoint import EDMCheckpoint
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from tests.pretrained.edm.pickle_files import small_pickles, tiny
from tests.pretrained.edm.watching import watched

NUM_MUTATIONS = 1600
NUM_STREAMS = 500
SLOWEST = 2.0  # seconds of CPU a case; some two milliseconds is usual


def read(file: Path, data: bytes) -> bool:
    """Whether the bytes are a checkpoint; everything but a CheckpointError fails the test."""
    file.write_bytes(data)
    start = time.process_time()
    with watched() as seen:
        try:
            found = read_edm_pickle(file)
        except CheckpointError:
            found = None
    assert seen == [], f"{seen}: {data!r}"
    assert time.process_time() - start < SLOWEST, data
    assert found is None or isinstance(found, EDMCheckpoint)
    return found is not None


def mutations(data: bytes, num: int) -> Iterator[bytes]:
    """Flipped bits, other bytes, cuts, insertions of opcodes, pieces moved or repeated."""
    rng = random.Random(0)
    opcodes = b"c\x93Rob\x81\x92\x82\x83\x84PQi(.0012)tu}]sae\x85\x86\x87\x8e\x8a\x8bBCXhjqr\x94NIK"
    for index in range(num):
        cut = bytearray(data)
        place, other = rng.randrange(len(cut)), rng.randrange(len(cut))
        kind = index % 7
        if kind == 0:
            cut[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            cut[place] = rng.randrange(256)
        elif kind == 2:
            del cut[place:]
        elif kind == 3:
            cut[place:place] = bytes(rng.choices(opcodes, k=rng.randrange(1, 4)))
        elif kind == 4:
            cut[place] = rng.choice(opcodes)
        elif kind == 5:
            cut[place : place + rng.randrange(1, 40)] = b""
        else:
            cut[place:place] = cut[other : other + rng.randrange(1, 60)]
        yield bytes(cut)


def test_mutated_files_run_nothing_and_end_soon(tmp_path):
    raw = small_pickles() + (4).to_bytes(8, "little") + bytes(16)
    data = edm_file(tiny(**{"model.x": stored(raw, (4,), (1,))}))
    assert read(tmp_path / "whole.pkl", data)
    whole = [read(tmp_path / "mutated.pkl", one) for one in mutations(data, NUM_MUTATIONS)]
    assert len(whole) == NUM_MUTATIONS
    assert 0 < sum(whole) < NUM_MUTATIONS / 2  # some only change a number


NAMES = [
    *(("os", "system"), ("builtins", "exec"), ("collections", "OrderedDict"), ("numpy", "dtype")),
    *(("torch_utils.persistence", "_reconstruct_persistent_obj"), ("builtins", "set")),
    *(("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")),
    *(("torch.storage", "_load_from_bytes"), ("numpy._core.multiarray", "scalar")),
    *(("dnnlib.util", "EasyDict"), ("torch.nn.modules.container", "ModuleDict")),
]
INNER = small_pickles() + (4).to_bytes(8, "little") + bytes(16)
FRAGMENTS = st.one_of(
    st.sampled_from([dump(Name(*name), 2)[2:-1] for name in NAMES]),
    st.sampled_from([b")R", b"\x85R", b"\x86R", b"tR", b")\x81", b"}b", b"N\x85R", b"](e\x85R"]),
    st.sampled_from(
        [bytes([code]) for code in b"NR\x81\x92b}])(tuesa\x85\x86\x87\x88\x89\x94\x93Qo0210"]
    ),
    st.sampled_from([dump(text, 2)[2:-2] for text in ("f8", "<", "_modules", "os", "system")]),
    st.sampled_from([dump(value, 2)[2:-1] for value in (INNER, 3, -1, 0.5, b"12345678", {"a": 1})]),
    st.integers(0, 12).map(lambda index: b"h" + bytes([index])),
    st.integers(0, 12).map(lambda index: b"q" + bytes([index])),
    st.binary(max_size=6),
)


@settings(
    max_examples=NUM_STREAMS,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(parts=st.lists(FRAGMENTS, max_size=40), wrapped=st.booleans())
def test_streams_of_opcodes_run_nothing_and_end_soon(tmp_path, parts, wrapped):
    body = b"".join(parts)
    if wrapped:  # as the value under the key that is read
        body = b"}\x8c\x03ema" + body + b"s"
    read(tmp_path / "stream.pkl", b"\x80\x04" + body + b".")


@pytest.mark.parametrize("seed", range(2))
def test_noise_inside_a_storage_runs_nothing(tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(50):
        place = rng.randrange(len(INNER))
        noise = INNER[:place] + rng.randbytes(3) + INNER[place + 3 :]
        data = edm_file(tiny(**{"model.x": stored(noise, (4,), (1,))}))
        if read(tmp_path / "noise.pkl", data):
            found = read_edm_pickle(tmp_path / "noise.pkl").tensors["model.x"]
            assert found.dtype is torch.float32
            assert found.shape == (4,)
