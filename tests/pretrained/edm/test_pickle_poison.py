"""Files that ask for more than an EDM checkpoint needs are refused by name, and nothing runs."""

import copyreg
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pickles import (
    Call,
    Name,
    Raw,
    dump,
    edm_file,
    network,
    persistent,
    storage_bytes,
    stored,
    tensor,
)
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from tests.pretrained.edm.pickle_files import TINY_KWARGS, small_pickles, tiny, write
from tests.pretrained.edm.watching import watched

FLAG = Path("/tmp") / f"disback-poison-{os.getpid()}"
SYSTEM = Call(Name("os", "system"), (f"touch {FLAG}",))
EXEC = Call(Name("builtins", "exec"), (f"open({str(FLAG)!r}, 'w')",))
RUN = Raw(b"cos\nsystem\n" + dump(f"touch {FLAG}", 2)[2:-2] + b"\x85R")
DICT = Raw(b"ccollections\nOrderedDict\n")


def in_storage(**poison: Any) -> bytes:
    """A network with one tensor whose inner bytes are poisoned."""
    raw = small_pickles(**poison) + (4).to_bytes(8, "little") + bytes(16)
    return edm_file(tiny(**{"model.x": stored(raw, (4,), (1,))}))


def in_state(value: Any) -> bytes:
    """A network with one attribute."""
    return edm_file(network("EDMPrecond", TINY_KWARGS, {}, attribute=value))


POISON: dict[str, tuple[bytes, str]] = {
    "alone": (dump(SYSTEM), "os.system"),
    "beside the network": (edm_file(tiny(), more=EXEC), "builtins.exec"),
    "deep in a dictionary": (edm_file(tiny(), more={"a": [({"b": SYSTEM},)]}), "os.system"),
    "instead of a tensor": (edm_file(tiny(**{"model.x": SYSTEM})), "os.system"),
    "instead of a shape": (
        edm_file(tiny(**{"model.x": stored(storage_bytes(torch.ones(1)), EXEC, (1,))})),
        "builtins.exec",
    ),
    "in the class's state": (in_state(SYSTEM), "os.system"),
    "in the arguments": (edm_file(network("EDMPrecond", {"a": EXEC}, {})), "builtins.exec"),
    "in another object": (edm_file(tiny(), pipe=persistent("Pipe", {"a": EXEC})), "builtins.exec"),
    "as a storage's type": (in_storage(kind=RUN), "os.system"),
    "in a storage's key": (in_storage(key=EXEC), "builtins.exec"),
    "in a storage's byte order": (in_storage(little_endian=SYSTEM), "os.system"),
    "a storage that is called": (
        in_storage(kind=Call(Raw(b"ctorch\nFloatStorage\n"), (4,))),
        "a call of torch.FloatStorage",
    ),
    "a storage in a storage": (
        in_storage(kind=Call(Raw(b"ctorch.storage\n_load_from_bytes\n"), (b"x",))),
        "torch.storage._load_from_bytes",
    ),
    "by GLOBAL": (in_state(RUN), "os.system"),
    "by INST": (in_state(Raw(b"(\x8c\x01xios\nsystem\n")), "os.system"),
    "by OBJ": (in_state(Raw(b"(cos\nsystem\n\x8c\x01xo")), "os.system"),
    "by OBJ of a known name": (in_state(Raw(b"(" + DICT.opcodes + b"o")), "opcode OBJ"),
    "by NEWOBJ": (in_state(Call(Name("subprocess", "Popen"), ("x",), b"\x81")), "subprocess.Popen"),
    "by NEWOBJ_EX": (in_state(Raw(DICT.opcodes + b")}\x92")), "opcode NEWOBJ_EX"),
    "by EXT1": (in_state(Raw(b"\x82\xf1")), "extension code 241 (EXT1)"),
    "by EXT2": (in_state(Raw(b"\x83\xf1\x00")), "extension code 241 (EXT2)"),
    "by EXT4": (in_state(Raw(b"\x84\xf1\x00\x00\x00")), "extension code 241 (EXT4)"),
    "by PERSID": (in_state(Raw(b"Pos.system\n")), "the persistent id os.system"),
    "by BINPERSID": (in_state(Raw(b"\x8c\x01xQ")), "a persistent id"),
    "by BUILD of a stranger": (
        in_state(Call(Name("os", "_wrap_close"), (), b"\x81", {"a": 1})),
        "os._wrap_close",
    ),
    "by BUILD of a dictionary": (
        in_state(Call(Name("collections", "OrderedDict"), (), state={"__class__": 1})),
        "__setstate__ of a dict",
    ),
    "by BUILD of a number": (in_state(Raw(b"K\x01}b")), "__setstate__ of a int"),
    "by BUILD of a name": (in_state(Raw(DICT.opcodes + b"}b")), "__setstate__ of a Constructor"),
    "by BUILD of a tensor": (
        edm_file(tiny(**{"model.x": replace(tensor(torch.ones(1)), state={"data": 1})})),
        "__setstate__ of a StoredTensor",
    ),
    "by BUILD of a network": (
        edm_file(replace(tiny(), state={"__setstate__": EXEC})),
        "builtins.exec",
    ),
    "by names out of the memo": (
        in_state(Raw(b"\x8c\x02osq\xf0\x8c\x06systemq\xf1h\xf0h\xf1\x93")),
        "os.system",
    ),
    "by an overwritten memo": (
        in_state(Raw(DICT.opcodes + b"q\xf0\x8c\x09os.systemq\xf0h\xf0)R")),
        "a call of a str",
    ),
    "by a name of bytes": (in_state(Raw(b"C\x02osC\x06system\x93")), "whose name is not text"),
    "by a dotted name": (
        in_state(Name("torch.nn.modules.container", "os.system")),
        "torch.nn.modules.container.os.system",
    ),
    "by a name's method": (
        in_state(Name("collections", "OrderedDict.fromkeys")),
        "collections.OrderedDict.fromkeys",
    ),
    "by a call with a list": (in_state(Raw(DICT.opcodes + b"]R")), "a call of a Constructor"),
    "by a call of a text": (in_state(Raw(b"\x8c\x09os.system)R")), "a call of a str"),
    "by a call of a module": (in_state(Call(persistent("A", {}), ())), "a call of a Module"),
    "control characters": (in_state(Name("os\x1b[2J", "system")), r"os\x1b[2J.system"),
}
STRANGERS = (
    *("builtins.eval", "builtins.getattr", "builtins.__import__", "__main__.x", "nt.system"),
    *("torch.load", "torch.serialization.load", "torch.hub.load", "torch._utils._rebuild_qtensor"),
    *("torch._utils._rebuild_sparse_tensor", "torch._tensor._rebuild_from_type_v2", "numpy.load"),
    *("numpy.core.multiarray._reconstruct", "numpy.ndarray", "functools.partial", "types.CodeType"),
    *("operator.attrgetter", "copyreg._reconstructor", "_codecs.encode", "runpy._run_code"),
    *("torch.nn.modules.module.register_module_forward_hook", "torch.FloatStorage", "pickle.loads"),
    *("torch_utils.persistence._src_to_module", "dnnlib.util.call_func_by_name", "posix.system"),
)
for stranger in STRANGERS:
    POISON[stranger] = (in_state(Name(*stranger.rsplit(".", 1))), stranger)


@pytest.mark.parametrize("name", POISON)
def test_poison_is_refused_by_name_and_nothing_runs(tmp_path, name):
    data, offending = POISON[name]
    file = write(tmp_path, data)
    copyreg.add_extension("os", "system", 241)
    try:
        with watched() as seen, pytest.raises(CheckpointError, match=re.escape(offending)):
            read_edm_pickle(file)
    finally:
        copyreg.remove_extension("os", "system", 241)
    assert seen == []
    assert not FLAG.exists()


def test_the_watch_sees_what_the_standard_unpickler_does(tmp_path):
    with watched() as seen:
        pickle.loads(dump(Call(Name("builtins", "exec"), ("1",))))
        pickle.loads(dump(Call(Name("os", "system"), ("true",))))
        with open(tmp_path / "written", "w"):
            pass
    kinds = {line.split()[0] for line in seen}
    assert kinds >= {"pickle.find_class", "exec", "os.system", "open"}
