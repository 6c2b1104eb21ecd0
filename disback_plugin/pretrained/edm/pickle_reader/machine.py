"""A pickle machine that can build plain values and ask an allow-list, and nothing else.

It knows the opcodes that EDM checkpoints use (pickle protocols 2 to 5). It imports nothing, calls
nothing that a file names and has no other way to an object than `find_global`. Every dictionary
key is a short string, so that no crafted key can make hashing slow; opcodes are counted and each
builds no more than it brings, so that time and memory stay within a multiple of `max_opcodes` and
of the file's size.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.edm.pickle_reader.source import LONGEST_LINE, ByteSource

NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
STOP = ord(".")
LONGEST_NAME = 120  # of what an error message repeats from the file


def shown(text: str) -> str:
    """A name out of a file, safe to print: short, and control characters escaped."""
    return text[:LONGEST_NAME].encode("unicode_escape").decode()


def refuse(name: str) -> CheckpointError:
    """The error for what a file asks for and must not have."""
    return CheckpointError(
        f"asks for {shown(name)}, which no EDM checkpoint needs: refused, nothing in it was run"
    )


@dataclass(frozen=True)
class Constructor:
    """What a name of the allow-list stands for: our own function of the tuple of arguments."""

    name: str
    build: Callable[[tuple[Any, ...]], Any]


class Record:
    """An object of the file that may receive its state after its construction."""

    def receive(self, state: Any) -> None:
        """Take the state; CheckpointError where it is not what this kind of object has."""
        raise NotImplementedError


def no_persistent_id(_: Any) -> Any:
    """Refuse a reference to something outside the file."""
    raise refuse("a persistent id")


# opcodes that only push what follows them
PUSH: dict[str, Callable[[ByteSource], Any]] = {
    "NONE": lambda source: None,
    "NEWTRUE": lambda source: True,
    "NEWFALSE": lambda source: False,
    "BININT": lambda source: source.number("<i"),
    "BININT1": lambda source: source.number("B"),
    "BININT2": lambda source: source.number("<H"),
    "LONG1": lambda source: int.from_bytes(source.take(source.number("B")), "little", signed=True),
    "BINFLOAT": lambda source: source.number(">d"),
    "SHORT_BINUNICODE": lambda source: source.text(source.number("B")),
    "BINUNICODE": lambda source: source.text(source.number("<I")),
    "SHORT_BINBYTES": lambda source: source.skip(source.number("B")),
    "BINBYTES": lambda source: source.skip(source.number("<I")),
    "BINBYTES8": lambda source: source.skip(source.number("<Q")),
    "EMPTY_DICT": lambda source: {},
    "EMPTY_LIST": lambda source: [],
    "EMPTY_SET": lambda source: set(),
    "EMPTY_TUPLE": lambda source: (),
}
PUSH_BY_CODE = {code: PUSH[name] for code, name in NAMES.items() if name in PUSH}


class PickleMachine:
    """Reads one pickle from a source; bytes become `Span`s, names what `find_global` returns."""

    def __init__(
        self,
        source: ByteSource,
        find_global: Callable[[str], Constructor],
        max_opcodes: int,
        find_persistent: Callable[[Any], Any] = no_persistent_id,
    ) -> None:
        self.source = source
        self.find_global = find_global
        self.find_persistent = find_persistent
        self.max_opcodes = max_opcodes
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value that the pickle holds; CheckpointError for whatever else it asks or does."""
        start = self.source.position
        try:
            for _ in range(self.max_opcodes):
                start = self.source.position
                code = self.source.take(1)[0]
                if code == STOP:
                    return self.stack.pop()
                if code in PUSH_BY_CODE:
                    self.stack.append(PUSH_BY_CODE[code](self.source))
                elif code in ACTIONS:
                    ACTIONS[code](self)
                else:
                    self._refuse_opcode(code)
        except (IndexError, KeyError, UnicodeDecodeError):
            raise CheckpointError(f"damaged: nothing fits the opcode at byte {start}") from None
        raise CheckpointError(f"has more than {self.max_opcodes} opcodes, no EDM checkpoint does")

    def _refuse_opcode(self, code: int) -> None:
        name = NAMES.get(code, f"the unknown opcode {code:#04x}")
        if name == "INST":
            raise refuse(f"{self.source.line()}.{self.source.line()}")
        if name in ("EXT1", "EXT2", "EXT4"):
            layout = {"EXT1": "B", "EXT2": "<H", "EXT4": "<i"}[name]
            raise refuse(f"the extension code {self.source.number(layout)} ({name})")
        if name == "PERSID":
            raise refuse(f"the persistent id {self.source.line()}")
        raise refuse(f"the pickle opcode {name}" if code in NAMES else name)

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def op_proto(self) -> None:
        version = self.source.number("B")
        if not 2 <= version <= 5:
            raise CheckpointError(f"is of pickle protocol {version}; 2 to 5 are known")

    def op_frame(self) -> None:
        self.source.number("<Q")  # framing helps those who read ahead

    def op_mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def op_memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_binput(self) -> None:
        self.memo[self.source.number("B")] = self.stack[-1]

    def op_long_binput(self) -> None:
        self.memo[self.source.number("<I")] = self.stack[-1]

    def op_binget(self) -> None:
        self.stack.append(self.memo[self.source.number("B")])

    def op_long_binget(self) -> None:
        self.stack.append(self.memo[self.source.number("<I")])

    def op_tuple(self) -> None:
        items = self._pop_mark()
        self.stack.append((*items,))

    def op_tuple1(self) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def op_tuple2(self) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def op_tuple3(self) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def op_append(self) -> None:
        self._extend([self.stack.pop()])

    def op_appends(self) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise CheckpointError("damaged: appends to what is not a list")
        target += items

    def op_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def op_setitems(self) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        if type(target) is not dict or len(items) % 2:
            raise CheckpointError("damaged: sets items of what is not a dictionary")
        target.update(zip(self._strings(keys), items[1::2], strict=True))

    def op_additems(self) -> None:
        items = self._strings(self._pop_mark())
        if type(self.stack[-1]) is not set:
            raise CheckpointError("damaged: adds to what is not a set")
        self.stack[-1].update(items)

    def _strings(self, items: list[Any]) -> list[str]:
        for item in items:
            if type(item) is not str:
                raise CheckpointError(f"has a {type(item).__name__} where a name is due")
            if len(item) > LONGEST_LINE:
                raise CheckpointError(f"has a name of {len(item)} characters: {shown(item)}...")
        return items

    def op_global(self) -> None:
        module, name = self.source.line(), self.source.line()
        self.stack.append(self.find_global(f"{module}.{name}"))

    def op_stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(name) is not str:
            raise refuse("a global whose name is not text")
        if len(module) + len(name) > LONGEST_LINE:  # joined anew each time it is asked for
            raise refuse(f"a global with a name of {len(module) + len(name)} characters")
        self.stack.append(self.find_global(f"{module}.{name}"))

    def op_reduce(self) -> None:
        arguments, constructor = self.stack.pop(), self.stack.pop()
        if type(constructor) is not Constructor or type(arguments) is not tuple:
            raise refuse(f"a call of a {type(constructor).__name__}")
        self.stack.append(constructor.build(arguments))

    op_newobj = op_reduce  # `cls.__new__(cls, *arguments)` is a call of the same stand-in

    def op_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Record):
            raise refuse(f"__setstate__ of a {type(target).__name__}")
        target.receive(state)

    def op_binpersid(self) -> None:
        self.stack.append(self.find_persistent(self.stack.pop()))


ACTIONS: dict[int, Callable[[PickleMachine], None]] = {
    code: getattr(PickleMachine, f"op_{name.lower()}")
    for code, name in NAMES.items()
    if hasattr(PickleMachine, f"op_{name.lower()}")
}
