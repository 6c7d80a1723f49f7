"""Pickles read without running them: every class and function that a pickle names stays a name.

A pickle is a program for a small machine, and the usual machines obey it: they import what it names and call it.
`torch.load(weights_only=True)` obeys for a list of names. This machine goes further: it has no operation that
imports or calls anything that the file says. A name becomes a `Name`; "call this" becomes a plain value by
one of our own functions, chosen from a fixed table, or else a `Record` and the finding that the file asks for a
foreign class. So listing what a hostile file asks for and reading a harmless one are the same safe walk.

Operations are decoded by the standard library's `pickletools`, which checks every length against what is there.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.values import Array, LazyTensor, Name, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Maker = Callable[..., object] | None

_LONGEST_LINE = 10_000
_SCALARS = (str, bytes, int, float, bool, complex, type(None), Name)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_OBJECTS = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX"}
_FROM_MARK = {"TUPLE", "LIST", "DICT", "FROZENSET"}
_EMPTY: dict[str, Callable[[], object]] = {
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Reader:
    """Bytes as a file for `pickletools`, without copying them; never hands out more than there is."""

    def __init__(self, view: memoryview, position: int = 0) -> None:
        self.view = view
        self.position = position

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes, all that are left for a negative one."""
        end = len(self.view) if count < 0 else min(self.position + count, len(self.view))
        chunk = bytes(self.view[self.position : end])
        self.position = end
        return chunk

    def readline(self) -> bytes:
        """Up to the next line's start; lines of a pickle are names and numbers, so they are short."""
        found = bytes(self.view[self.position : self.position + _LONGEST_LINE]).find(b"\n")
        if found < 0:
            raise ValueError("a line without an end")
        return self.read(found + 1)

    def tell(self) -> int:
        """Where the next byte is read."""
        return self.position


class Machine:
    """One pickle's machine.

    Args:
        makers: full name -> our own function that gives the value for a call of it; None for what may be named
            but not called.
        stored: value for a persistent id, which is how torch's pickles name numbers outside of them.
        inert: classes whose names start so become records and do not count as foreign; "" for none.

    Attributes:
        asked: full names that are not admitted, in the order of the file.
    """

    def __init__(self, makers: Mapping[str, Maker], stored: Callable[[object], object], inert: str = "") -> None:
        self.asked: dict[str, None] = {}
        self._makers = makers
        self._stored = stored
        self._inert = inert
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._handlers: tuple[tuple[set[str], Callable[[str, object], None]], ...] = (
            (_GETS | _PUTS, self._remember),
            (_LITERALS | set(_CONSTANTS) | set(_EMPTY) | set(_TUPLES), self._value),
            ({"MARK", "POP", "POP_MARK", "DUP"}, self._move),
            (_FROM_MARK, self._from_mark),
            (_OBJECTS, self._object),
            ({"APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"}, self._fill),
            ({"BUILD"}, self._build),
            ({"BINPERSID"}, self._outside),
            ({"PROTO", "FRAME"}, self._nothing),
        )

    def run(self, reader: Reader) -> object:
        """The pickle's value; `reader` stands behind the pickle afterwards.

        Raises:
            ValueError: it is not a pickle, or a broken one. Other errors come from broken ones too.
        """
        operations: Iterator[tuple[pickletools.OpcodeInfo, object, int | None]] = pickletools.genops(reader)  # type: ignore[arg-type]
        for opcode, argument, _ in operations:
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("a pickle without an end")

    def _step(self, name: str, argument: object) -> None:
        for group, handle in self._handlers:
            if name in group:
                handle(name, argument)
                return
        raise ValueError(f"the pickle operation {name}, which weights do not need")

    def _value(self, name: str, argument: object) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        else:
            self._tuple(_TUPLES[name])

    def _remember(self, name: str, argument: object) -> None:
        if name in _GETS:
            if _index(argument) not in self._memo:
                raise ValueError("a value that is used before it is made")
            self._stack.append(self._memo[_index(argument)])
        else:
            place = len(self._memo) if name == "MEMOIZE" else _index(argument)
            self._memo[place] = self._stack[-1]

    def _outside(self, _name: str, _argument: object) -> None:
        self._stack.append(self._stored(self._stack.pop()))

    def _nothing(self, _name: str, _argument: object) -> None:
        """Version and framing say nothing about the value."""

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise ValueError("a pickle that takes more than it gave")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _marked(self) -> list[object]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _move(self, name: str, _argument: object) -> None:
        if name == "MARK":
            self._marks.append(self._stack)
            self._stack = []
        elif name == "POP_MARK" or (name == "POP" and not self._stack):
            self._marked()
        elif name == "POP":
            self._stack.pop()
        else:
            self._stack.append(self._stack[-1])

    def _from_mark(self, name: str, _argument: object) -> None:
        items = self._marked()
        if name == "DICT":
            made: dict[object, object] = {}
            _set_items(made, items)
            self._stack.append(made)
        elif name == "FROZENSET":
            self._stack.append(frozenset(_keys(items)))
        else:
            self._stack.append(tuple(items) if name == "TUPLE" else items)

    def _object(self, name: str, argument: object) -> None:
        stack = self._stack
        if name == "GLOBAL":
            module, _, attribute = str(argument).partition(" ")
            stack.append(self._named(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = str(stack.pop()), str(stack.pop())
            stack.append(self._named(module, attribute))
        elif name == "INST":
            module, _, attribute = str(argument).partition(" ")
            items = self._marked()
            self._stack.append(self._made(self._named(module, attribute), tuple(items)))
        elif name == "OBJ":
            kind, *items = self._marked()
            self._stack.append(self._made(kind, tuple(items)))
        else:
            extra = stack.pop() if name == "NEWOBJ_EX" else {}
            arguments = stack.pop()
            if not isinstance(arguments, tuple) or extra:
                raise ValueError("a call with arguments that are no tuple")
            stack.append(self._made(stack.pop(), arguments))

    def _named(self, module: str, attribute: str) -> Name:
        full = f"{_PYTHON2.get(module, module)}.{attribute}"
        if full not in self._makers and not (self._inert and full.startswith(self._inert)):
            self.asked[full] = None
        return Name(full)

    def _made(self, kind: object, arguments: tuple[object, ...]) -> object:
        if not isinstance(kind, Name):
            raise ValueError(f"a call of a {type(kind).__name__}")  # noqa: TRY004 (the file's fault, not a caller's)
        maker = self._makers.get(kind.full)
        if maker is not None and kind.full not in self.asked:
            return maker(*arguments)
        if not (self._inert and kind.full.startswith(self._inert)):
            self.asked[kind.full] = None
        return Record(kind.full)

    def _build(self, _name: str, _argument: object) -> None:
        state = self._stack.pop()
        made = self._stack[-1]
        if isinstance(made, OrderedDict):
            # torch keeps the names of all modules beside a state dict; nothing else is taken over.
            if isinstance(state, dict) and isinstance(state.get("_metadata"), dict):
                vars(made)["_metadata"] = state["_metadata"]
        elif isinstance(made, Record):
            made.state = state
        elif hasattr(made, "fill"):
            made.fill(state)
        elif not isinstance(made, LazyTensor | Array):
            raise ValueError(f"a state for a {type(made).__name__}")

    def _fill(self, name: str, _argument: object) -> None:
        if name == "APPEND":
            items = [self._stack.pop()]
        elif name == "SETITEM":
            value, key = self._stack.pop(), self._stack.pop()
            items = [key, value]
        else:
            items = self._marked()
        target = self._stack[-1]
        if isinstance(target, Record):
            target.items.extend(items)
        elif isinstance(target, dict) and name.startswith("SETITEM"):
            _set_items(target, items)
        elif isinstance(target, list) and name.startswith("APPEND"):
            target.extend(items)
        elif isinstance(target, set) and name == "ADDITEMS":
            target.update(_keys(items))
        else:
            raise ValueError(f"items for a {type(target).__name__}")


def _index(argument: object) -> int:
    return int(str(argument))


def _set_items(target: dict[object, object], items: list[object]) -> None:
    if len(items) % 2:
        raise ValueError("a key without a value")
    target.update(zip(_keys(items[::2]), items[1::2], strict=True))


def _keys(items: list[object]) -> list[object]:
    """Plain keys only: the hash of tuples in tuples in tuples can take forever."""
    for item in items:
        plain = all(isinstance(inner, _SCALARS) for inner in item) if isinstance(item, tuple) else False
        if not plain and not isinstance(item, _SCALARS):
            raise ValueError(f"a key that is a {type(item).__name__}")
    return items
