"""A structural check of GGUF files, before llama.cpp sees them.

llama.cpp ends the process on some damaged files, so the daemon reads the header itself first: magic, version,
metadata, and for each tensor that its data lies inside the file.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from pg_steadytext.errors import ModelFailed

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_TENSORS = 100_000
MAX_KEYS = 100_000
MAX_DEPTH = 2
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

# ggml type -> (elements of a block, bytes of a block); a type that is not listed has no check of its data's end
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the daemon needs to know of a GGUF file."""

    architecture: str
    metadata: dict[str, object]
    tensors: int

    def _number(self, key: str) -> int:
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, list):
            return max((item for item in value if isinstance(item, int)), default=0)
        return value if isinstance(value, int) else 0

    @property
    def context_length(self) -> int:
        """The window the model was trained for, in tokens; 0 where the file does not say."""
        return self._number("context_length")

    @property
    def embedding_length(self) -> int:
        """The width of the model's vectors."""
        return self._number("embedding_length")

    @property
    def is_encoder(self) -> bool:
        """Whether it is of the BERT family, which reads a text whole and writes none."""
        return "bert" in self.architecture

    @property
    def has_chat_template(self) -> bool:
        """Whether the file brings the template that turns a prompt into a conversation."""
        return "tokenizer.chat_template" in self.metadata

    def cache_bytes(self, context: int) -> int:
        """Memory of one context's key-value cache (16-bit), in bytes."""
        heads = self._number("attention.head_count") or 1
        kv_heads = self._number("attention.head_count_kv") or heads
        width = self.embedding_length // heads
        key = self._number("attention.key_length") or width
        value = self._number("attention.value_length") or width
        return context * self._number("block_count") * kv_heads * (key + value) * 2


class _DamagedError(Exception):
    """The file ends early, or a value in it makes no sense."""


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self._data):
            raise _DamagedError("it ends in the middle of its header (truncated?)")
        found = self._data[self.position : end]
        self.position = end
        return found

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0])

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> object:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self._array(depth)
        if kind not in SCALARS:
            raise _DamagedError(f"a metadata value has the unknown type {kind}")
        code = f"<{SCALARS[kind]}"
        found: object = struct.unpack(code, self.take(struct.calcsize(code)))[0]
        return found

    def _array(self, depth: int) -> object:
        kind, count = self.number("I"), self.number("Q")
        if depth > MAX_DEPTH:
            raise _DamagedError("metadata arrays are nested too deep")
        if kind in SCALARS:
            code = f"<{count}{SCALARS[kind]}" if count <= len(self._data) else ""
            if not code:
                raise _DamagedError("a metadata array is longer than the file")
            values = struct.unpack(code, self.take(struct.calcsize(code)))
            return list(values) if count <= 4096 else None
        for _ in range(count):
            self.value(kind, depth + 1)
        return None


def read_header(path: Path) -> GgufHeader:
    """Read and check a GGUF file. Raises ModelFailed for one that is not GGUF, truncated or damaged."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(_Reader(data), len(data))
    except _DamagedError as error:
        raise ModelFailed(
            f"{path} is not a usable GGUF file: {error}", hint="fetch the file again and check its sha256"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelFailed(f"{path} cannot be read: {error}") from error


def read_list(path: Path, key: str) -> list[object]:
    """A list in the metadata of a GGUF file, however long; empty where there is none. Raises ModelFailed."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(data)
            reader.take(len(MAGIC) + 12)
            for _ in range(reader.number("Q")):
                found, kind = reader.string(), reader.number("I")
                if found == key and kind == ARRAY:
                    kind = reader.number("I")
                    return [reader.value(kind) for _ in range(reader.number("Q"))]
                reader.value(kind)
    except (_DamagedError, OSError, ValueError) as error:
        raise ModelFailed(f"{path} cannot be read: {error}") from error
    return []


def _read(reader: _Reader, size: int) -> GgufHeader:
    magic = reader.take(4)
    if magic != MAGIC:
        raise _DamagedError(f"it begins with {magic!r}, not {MAGIC!r}")
    version = reader.number("I")
    if version not in VERSIONS:
        raise _DamagedError(f"it has format version {version}, known are {VERSIONS}")
    tensors, keys = reader.number("Q"), reader.number("Q")
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise _DamagedError(f"it claims {tensors} tensors and {keys} metadata keys")
    metadata: dict[str, object] = {}
    for _ in range(keys):
        key = reader.string()
        metadata[key] = reader.value(reader.number("I"))
    end = max((_tensor_end(reader) for _ in range(tensors)), default=0)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise _DamagedError(f"its alignment is {alignment}")
    start = -(-reader.position // alignment) * alignment
    if start + end > size:
        raise _DamagedError(f"its tensors need {start + end} bytes, the file has {size} (truncated?)")
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not tensors:
        raise _DamagedError("it holds no model (no architecture or no tensors)")
    return GgufHeader(architecture, metadata, tensors)


def _tensor_end(reader: _Reader) -> int:
    name = reader.string()
    dimensions = reader.number("I")
    if not 1 <= dimensions <= 4:
        raise _DamagedError(f'tensor "{name}" has {dimensions} dimensions')
    elements = 1
    for _ in range(dimensions):
        elements *= reader.number("Q")
    kind, offset = reader.number("I"), reader.number("Q")
    block, size = BLOCKS.get(kind, (1, 0))
    return offset + -(-elements // block) * size
