"""Pickles of texts, numbers and arrays of numbers, read as data.

A pickle is a program that names functions to be called. This machine knows the few instructions and names by which
Python and numpy write a text, a number and a one-dimensional array, and has a meaning of its own for each: it imports
nothing, calls nothing that a pickle names, and refuses everything else. So it needs no numpy either.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pg_steadytext.errors import InvalidArgument

Value = str | float | tuple[float, ...]

MOST_INSTRUCTIONS = 1000
LONGEST_ARRAY = 16_000  # the dimensions that a vector of PostgreSQL may have

FORMATS = {"f4": "f", "f8": "d", "f2": "e"}
ORDERS = {"<": "<", ">": ">", "=": "=", "|": "="}

_PUSHED = {
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "BINFLOAT", "FLOAT", "BININT", "BININT1", "BININT2"),
    *("INT", "LONG", "LONG1", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass(frozen=True, slots=True)
class _Name:
    """What a pickle calls by name; never the thing itself."""

    called: str


@dataclass(slots=True)
class _Type:
    """A numpy dtype: how many bytes make a number, and in which order."""

    code: str
    order: str = "="

    def numbers(self, raw: object, count: object) -> tuple[float, ...]:
        if not isinstance(raw, bytes | bytearray) or isinstance(count, bool) or not isinstance(count, int):
            raise InvalidArgument("its array is not one of numbers")
        layout = f"{ORDERS[self.order]}{FORMATS[self.code]}"
        if not 0 <= count <= LONGEST_ARRAY or count * struct.calcsize(layout) != len(raw):
            raise InvalidArgument("its array is not as long as it says")
        return struct.unpack(f"{layout[0]}{count}{layout[1]}", raw)


@dataclass(slots=True)
class _Array:
    """A numpy array, empty until its state arrives."""

    numbers: tuple[float, ...] | None = None


def _type(code: object, *_: object) -> _Type:
    if not isinstance(code, str) or code not in FORMATS:
        raise InvalidArgument("its array is not of floating-point numbers")
    return _Type(code)


def _empty(*_: object) -> _Array:
    return _Array()


def _count(shape: object) -> object:
    if not isinstance(shape, tuple) or len(shape) != 1:
        raise InvalidArgument("its array has not one dimension")
    return shape[0]


def _from_buffer(raw: object, dtype: object, shape: object, *_: object) -> _Array:
    if not isinstance(dtype, _Type):
        raise InvalidArgument("its array has no type")
    return _Array(dtype.numbers(raw, _count(shape)))


def _scalar(dtype: object, raw: object) -> float:
    if not isinstance(dtype, _Type):
        raise InvalidArgument("its number has no type")
    return dtype.numbers(raw, 1)[0]


_MADE: dict[str, Callable[..., object] | None] = {"numpy.ndarray": None, "numpy.dtype": _type}
for _core in ("numpy.core", "numpy._core"):
    _MADE[f"{_core}.multiarray._reconstruct"] = _empty
    _MADE[f"{_core}.multiarray.scalar"] = _scalar
    _MADE[f"{_core}.numeric._frombuffer"] = _from_buffer


@dataclass(slots=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        elif name in {"MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}:
            self.group(name)
        elif name in {"GLOBAL", "STACK_GLOBAL"}:
            self.name(argument)
        elif name == "REDUCE":
            self.make()
        elif name == "BUILD":
            self.fill()
        elif name not in {"PROTO", "FRAME"}:
            raise InvalidArgument(f"its instruction {name} makes neither a text nor a number nor an array")

    def group(self, name: str) -> None:
        if name == "MARK":
            self.marks.append(len(self.stack))
            return
        begin = self.marks.pop() if name == "TUPLE" else len(self.stack) - int(name[-1])
        if not 0 <= begin <= len(self.stack):
            raise IndexError
        self.stack[begin:] = [tuple(self.stack[begin:])]

    def name(self, argument: object) -> None:
        if argument is None:
            attribute, module = self.stack.pop(), self.stack.pop()
            called = f"{module}.{attribute}" if isinstance(module, str) and isinstance(attribute, str) else "?"
        else:
            called = str(argument).replace(" ", ".")
        if called not in _MADE:
            raise InvalidArgument(f"it asks for {called[:100]!r}")
        self.stack.append(_Name(called))

    def make(self) -> None:
        arguments, asked = self.stack.pop(), self.stack.pop()
        function = _MADE[asked.called] if isinstance(asked, _Name) else None
        if function is None or not isinstance(arguments, tuple):
            raise InvalidArgument("it calls what cannot be called")
        self.stack.append(function(*arguments))

    def fill(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(state, tuple) or len(state) < 5:
            raise InvalidArgument("it sets a state that is none")
        if isinstance(made, _Type) and isinstance(state[1], str) and state[1] in ORDERS:
            made.order = state[1]
        elif isinstance(made, _Array) and isinstance(state[2], _Type):
            made.numbers = state[2].numbers(state[4], _count(state[1]))
        else:
            raise InvalidArgument("it sets the state of what has none")


def load(pickled: bytes) -> Value:
    """Return the text, the number or the array that a pickle holds.

    Raises ``InvalidArgument`` for a pickle of anything else, and for bytes that are none.
    """
    machine = _Machine()
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(pickled)):
            if number > MOST_INSTRUCTIONS:
                raise InvalidArgument(f"it has more than {MOST_INSTRUCTIONS} instructions")
            if instruction.name == "STOP":
                return _value(machine.stack.pop())
            machine.step(instruction.name, argument)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise InvalidArgument("it is no pickle") from error
    raise InvalidArgument("it is no pickle")


def _value(made: object) -> Value:
    if isinstance(made, _Array) and made.numbers is not None:
        return made.numbers
    if isinstance(made, str):
        return made
    if isinstance(made, int | float) and not isinstance(made, bool):
        return float(made)
    raise InvalidArgument("it is neither a text nor a number nor an array")


def dump_text(text: str) -> bytes:
    """Return a text as a pickle."""
    return pickle.dumps(text, protocol=4)


def dump_array(numbers: bytes) -> bytes:
    """Return little-endian float32 numbers as the pickle of a numpy array, which any version of numpy reads."""
    count = len(numbers) // 4
    return b"".join(
        [
            b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tC\x01b\x87R",
            b"(K\x01(J", struct.pack("<i", count), b"t",
            b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4K\x00K\x01tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89B", struct.pack("<I", len(numbers)), numbers, b"tb.",
        ]
    )  # fmt: skip
