"""Pickles are read as data: what Python and numpy write comes back, and nothing that a pickle asks for is done."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.exchange import pickles


class Calls:
    """Pickled, asks its reader to call a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.asked = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.asked


def named(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


DTYPE = named("numpy", "dtype") + b"(X\x02\x00\x00\x00f4I0\nI1\ntR(I3\nX\x01\x00\x00\x00<NNNI-1\nI-1\nI0\ntb"
SHELL = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray").join([b"(", b"(I0\ntC\x01btR"])

# Programs in a pickle's own language, each of them refused.
HOSTILE = {
    "system": b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
    "system by its other name": b"cposix\nsystem\n(X\x04\x00\x00\x00truetR.",
    "eval": b"cbuiltins\neval\n(X\x03\x00\x00\x001+1tR.",
    "exec": b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x04pass\x85R.",
    "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nX\x01\x00\x00\x00xtR.",
    "an import": b"c__builtin__\n__import__\n(X\x02\x00\x00\x00ostR.",
    "an instance by INST": b"(X\x04\x00\x00\x00trueios\nsystem\n.",
    "an instance by OBJ": b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "an instance by NEWOBJ": b"\x80\x02cbuiltins\nobject\n)\x81.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "a persistent object": b"Psomething\n.",
    "an outside buffer": b"\x80\x05\x97.",
    "numpy reading a file": b"cnumpy\nload\n(X\x0b\x00\x00\x00/etc/passwdtR.",
    "numpy compiling": b"cnumpy.f2py\ncompile\n(X\x01\x00\x00\x00xtR.",
    "numpy running a test": b"cnumpy.testing\nrundocs\n(X\x01\x00\x00\x00xtR.",
    "a name with a path": b"cnumpy\ndtype.__class__\n(X\x01\x00\x00\x00xtR.",
    "names that join to another": b"\x80\x04\x8c\x00\x8c\x0bnumpy.dtype\x93.",
    "the class of arrays called": named("numpy", "ndarray") + b"((I1000000000\ntX\x02\x00\x00\x00f4tR.",
    "an array of objects": named("numpy", "dtype") + b"(X\x01\x00\x00\x00OI0\nI1\ntR.",
    "an array of records": named("numpy", "dtype") + b"((X\x01\x00\x00\x00aX\x02\x00\x00\x00f4ttR.",
    "an array longer than its bytes": SHELL + b"(I1\n(I1000000000\nt" + DTYPE + b"I00\nC\x04\x00\x00\x80?tb.",
    "an array shorter than nothing": SHELL + b"(I1\n(I-1\nt" + DTYPE + b"I00\nC\x00tb.",
    "an array of many dimensions": SHELL + b"(I1\n(I1\nI1\nt" + DTYPE + b"I00\nC\x04\x00\x00\x80?tb.",
    "an array without a state": SHELL + b".",
    "a type alone": DTYPE + b".",
    "a state for a function": named("numpy", "dtype") + b"(NNNNNtb.",
    "attributes for a function": named("numpy", "dtype") + b"}X\x08\x00\x00\x00__code__Nsb.",
    "a memo of four billion places": b"X\x01\x00\x00\x00ar\xff\xff\xff\xff0.",
    "a text of sixteen exabytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "tuples that double": b"N" + b"2\x86" * 400 + named("numpy", "dtype") + b"h\x00.",
    "a doubled tuple as a type": named("numpy", "dtype") + b"(Nq\x00" + b"h\x00\x86q\x00h\x00\x86q\x00" * 200 + b"tR.",
    "a million instructions": b"N0" * 1_000_000 + b".",
    "a list": pickle.dumps(["a"]),
    "a dictionary": pickle.dumps({"a": 1}),
    "a set": pickle.dumps({1}),
    "bytes": pickle.dumps(b"a"),
    "a truth value": pickle.dumps(True),
    "nothing": pickle.dumps(None),
    "a tuple": pickle.dumps(("a",)),
    "an empty file": b"",
    "noise": bytes(range(256)),
    "a pickle cut short": pickle.dumps("a long text")[:-4],
    "a pop of what is not there": b"0.",
    "a memo that is not there": b"h\x07.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        pickles.load(HOSTILE[name])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_that_a_pickle_calls_is_called(protocol: int, tmp_path: Path) -> None:
    made = tmp_path / "made"
    touch = f"import pathlib; pathlib.Path({str(made)!r}).touch()"
    for asked in (
        Calls(os.system, f"touch {made}"),
        Calls(exec, touch),
        Calls(eval, f"__import__('pathlib').Path({str(made)!r}).touch()"),
        Calls(subprocess.call, ["touch", str(made)]),
        Calls(partial(os.system, f"touch {made}")),
        Calls(str, Calls(exec, touch)),
    ):
        pickled = pickle.dumps(asked, protocol)
        with pytest.raises(InvalidArgument, match="it asks for"):
            pickles.load(pickled)
        assert not made.exists()
        pickle.loads(pickled)
        assert made.exists(), "the attack is no real one"
        made.unlink()


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: pickles.dump_array(b"\0\0\0\0")[:-9] + tail))
def test_any_bytes_are_a_value_or_refused(pickled: bytes) -> None:
    try:
        value = pickles.load(pickled)
    except InvalidArgument:
        return
    assert isinstance(value, str | float | tuple)


@given(st.text(), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_texts_come_back(text: str, protocol: int) -> None:
    assert pickles.load(pickle.dumps(text, protocol)) == text


@given(st.floats(allow_nan=False) | st.integers(-(2**60), 2**60), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_numbers_come_back(number: float, protocol: int) -> None:
    assert pickles.load(pickle.dumps(number, protocol)) == float(number)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("code", ["<f4", "<f8", ">f4", "<f2"])
def test_arrays_of_numpy_come_back(protocol: int, code: str) -> None:
    array = np.array([0.5, -0.25, 0.125], dtype=code)
    assert pickles.load(pickle.dumps(array, protocol)) == (0.5, -0.25, 0.125)
    assert pickles.load(pickle.dumps(array[0], protocol)) == 0.5


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
def test_numpy_reads_the_arrays_that_are_written(numbers: list[float]) -> None:
    pickled = pickles.dump_array(struct.pack(f"<{len(numbers)}f", *numbers))
    array = pickle.loads(pickled)
    assert array.dtype == np.float32
    assert array.tolist() == numbers
    assert pickles.load(pickled) == tuple(numbers)
