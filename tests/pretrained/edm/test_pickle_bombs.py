"""Files made to take all memory or time end soon in an error."""

import time
from typing import Any

import pytest
import torch

from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pickles import (
    Call,
    Name,
    Raw,
    Shared,
    edm_file,
    network,
    persistent,
    state,
    tensor,
)
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from disback_plugin.pretrained.edm.pickle_reader.constructors import make_set
from tests.pretrained.edm.pickle_files import TINY_KWARGS, write

BIG = (2**31).to_bytes(4, "little")


def given(value: Any) -> bytes:
    """A network that was built with one argument."""
    return edm_file(network("EDMPrecond", {"a": value}, {}))


def opcodes(raw: bytes) -> bytes:
    """A network with opcodes in its arguments."""
    return given(Raw(raw))


def holding(modules: dict[str, Any]) -> bytes:
    """A network of these modules."""
    inner = {"_init_args": (), "_init_kwargs": {}}
    return edm_file(persistent("EDMPrecond", state(modules=modules) | inner))


def module(modules: dict[str, Any]) -> Call:
    container = Name("torch.nn.modules.container", "ModuleDict")
    return Call(container, (), b"\x81", state(modules=modules))


def many_leaves() -> bytes:
    """10^12 numbers in 1 KB: lists of ten times the same list."""
    value: Any = [1] * 10
    for _ in range(11):
        value = [Shared(value)] * 10
    return given(value)


def many_modules() -> bytes:
    """2^30 modules: each holds the next one twice."""
    inner = module({})
    for _ in range(30):
        shared = Shared(inner)
        inner = module({"a": shared, "b": shared})
    return holding({"a": inner})


def deep_modules() -> bytes:
    """A chain of thirty modules."""
    inner = module({})
    for _ in range(30):
        inner = module({"a": inner})
    return holding({"a": inner})


def one_storage(times: int = 50) -> bytes:
    """The same 40 KB, asked for fifty times."""
    one = Shared(tensor(torch.zeros(10_000)))
    tensors = {f"p{index}": one for index in range(times)}
    return edm_file(network("EDMPrecond", TINY_KWARGS, tensors))


def named(length: int) -> bytes:
    """A layer of torch's with a name of that length, asked for fifty times."""
    container = Shared(Name("torch.nn.modules.container", "M" + "o" * (length - 1)))
    return given([Call(container, (), b"\x81") for _ in range(50)])


def one_module_twice() -> bytes:
    """No cycle and not deep."""
    shared = Shared(module({}))
    return holding({"a": shared, "b": shared})


def shared_table(num: int = 3000) -> bytes:
    """Many modules with the same table of many absent parameters."""
    table = Shared({f"p{index}": None for index in range(num)})
    container = Name("torch.nn.modules.container", "ModuleDict")
    one = {"_parameters": table}
    return holding({f"m{index}": Call(container, (), b"\x81", one) for index in range(num)})


def hiding(hidden: Any) -> bytes:
    """A network that says which of its buffers are no part of its tensors."""
    inner = {"_init_args": (), "_init_kwargs": {}, "_non_persistent_buffers_set": hidden}
    return edm_file(persistent("EDMPrecond", state() | inner))


BOMBS: dict[str, tuple[bytes, str]] = {
    "a text of 2 GB": (opcodes(b"X" + BIG), "a text of 2147483648 bytes"),
    "bytes of 2 GB": (opcodes(b"B" + BIG), "2147483648 bytes are due"),
    "bytes of 2^63": (opcodes(b"\x8e" + (2**63).to_bytes(8, "little")), "bytes are due"),
    "a number of 2 GB": (opcodes(b"\x8b" + BIG), "opcode LONG4"),
    "a number as text": (opcodes(b"I" + b"9" * 100_000 + b"\n"), "opcode INT"),
    "bytes in memory": (opcodes(b"\x96" + bytes(8)), "opcode BYTEARRAY8"),
    "a long name": (opcodes(b"c" + b"o" * 100_000 + b"\nx\n"), "a name without an end"),
    "endless opcodes": (opcodes(b"]" * 400_000), "more than 300000 opcodes"),
    "endless marks": (opcodes(b"(" * 400_000), "more than 300000 opcodes"),
    "deep lists": (opcodes(b"]" * 100_000 + b"a" * 99_999), "arguments .* without end"),
    "a list of itself": (opcodes(b"]q\xffh\xffa"), "arguments .* without end"),
    "a dictionary of itself": (opcodes(b"}q\xff\x8c\x01ah\xffs"), "arguments .* without end"),
    "many leaves": (many_leaves(), "arguments .* without end"),
    "many modules": (many_modules(), "twice, or in too many others"),
    "deep modules": (deep_modules(), "twice, or in too many others"),
    "one storage": (one_storage(), "tensors that share storages"),
    "a long name in memory": (named(10_000), "a global with a name of 10026 characters"),
    "a long key": (holding({"m" * 10_000: None}), "a name of 10000 characters: m{120}\\.\\.\\."),
    "a long text": (given("a" * 10_000), "a text of 10000 characters among its arguments"),
    "long paths": (
        holding({"m" * 200: module({"n" * 200: module({})})}),
        "more modules and tensors, or longer names",
    ),
    "one module twice": (one_module_twice(), "has the module 'b' twice"),
    "a shared table": (shared_table(), "more modules and tensors, or longer names"),
    "hidden buffers by number": (hiding(5), "damaged: the hidden buffers of a EDMPrecond"),
    "hidden buffers in a list": (hiding(["a"]), "damaged: the hidden buffers of a EDMPrecond"),
    "a tuple as a key": (opcodes(b"})Ns"), "has a tuple where a name is due"),
    "half a pair": (opcodes(b"}(K\x01u"), "sets items of what is not a dictionary"),
    "items of a list": (opcodes(b"](NNu"), "sets items of what is not a dictionary"),
    "appending to a dictionary": (opcodes(b"}Na"), "appends to what is not a list"),
    "adding to a list": (opcodes(b"](\x8c\x01a\x90"), "adds to what is not a set"),
    "a missing mark": (opcodes(b"ttttttttt"), "nothing fits the opcode"),
    "a missing entry of the memo": (opcodes(b"j" + BIG), "nothing fits the opcode"),
    "a text that is none": (opcodes(b"\x8c\x01\xff"), "nothing fits the opcode"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_soon_in_an_error(tmp_path, name):
    data, pattern = BOMBS[name]
    file = write(tmp_path, data)
    start = time.process_time()
    with pytest.raises(CheckpointError, match=pattern):
        read_edm_pickle(file)
    assert time.process_time() - start < 5


def test_a_list_is_made_into_a_set_once():
    """Else a list of 100,000 names, asked for as often, would be 10^10 of them."""
    names = ["a", "b", "a"]
    assert make_set((names,)) == {"a", "b"}
    assert make_set((names,)) == set()
