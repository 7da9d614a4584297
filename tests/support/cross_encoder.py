"""A tiny cross-encoder as a GGUF file, made on the spot: BERT's layout, drawn at random from a seed.

It knows nothing, but runs through all of llama.cpp's rerank path. Its vocabulary is letters, so that every text is
made of tokens it has. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import string
import struct
from pathlib import Path

import numpy as np

WIDTH, HEADS, FEED, LAYERS, CONTEXT = 32, 4, 64, 2, 64
ALIGNMENT = 32
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
NORMAL, CONTROL = 1, 3
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = string.ascii_lowercase + string.digits + ".,?!"


def write_cross_encoder(path: Path, *, seed: int = 7) -> Path:
    """Write the model and return its path."""
    vocabulary = [*SPECIAL, *(f"\u2581{char}" for char in LETTERS), *LETTERS]
    metadata = [
        _text("general.architecture", "bert"),
        _text("general.name", "tiny cross-encoder"),
        *(
            _number(f"bert.{key}", value)
            for key, value in {
                "context_length": CONTEXT,
                "embedding_length": WIDTH,
                "feed_forward_length": FEED,
                "block_count": LAYERS,
                "attention.head_count": HEADS,
                "pooling_type": 4,
            }.items()
        ),
        _key("bert.attention.layer_norm_epsilon", FLOAT32) + struct.pack("<f", 1e-12),
        _key("bert.attention.causal", BOOL) + b"\0",
        _text("tokenizer.ggml.model", "bert"),
        _text("tokenizer.ggml.pre", "default"),
        _key("tokenizer.ggml.tokens", ARRAY)
        + struct.pack("<IQ", STRING, len(vocabulary))
        + b"".join(map(_string, vocabulary)),
        _key("tokenizer.ggml.token_type", ARRAY)
        + struct.pack("<IQ", INT32, len(vocabulary))
        + struct.pack(f"<{len(vocabulary)}i", *(CONTROL if token in SPECIAL else NORMAL for token in vocabulary)),
        _number("tokenizer.ggml.token_type_count", 2),
        *(
            _number(f"tokenizer.ggml.{name}_token_id", SPECIAL.index(token))
            for name, token in {
                "padding": "[PAD]",
                "unknown": "[UNK]",
                "cls": "[CLS]",
                "bos": "[CLS]",
                "seperator": "[SEP]",
                "eos": "[SEP]",
            }.items()
        ),
    ]
    tensors = _weights(len(vocabulary), np.random.default_rng(seed))
    listed, data = b"", b""
    for name, values in tensors.items():
        data += b"\0" * (-len(data) % ALIGNMENT)
        listed += _string(name) + struct.pack("<I", values.ndim)
        listed += struct.pack(f"<{values.ndim}Q", *reversed(values.shape)) + struct.pack("<IQ", 0, len(data))
        data += values.astype("<f4").tobytes()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata) + listed
    path.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + data)
    return path


def _weights(words: int, dice: np.random.Generator) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def add(name: str, rows: int, columns: int | None = None) -> None:
        found[f"{name}.weight"] = dice.normal(0, 0.3, (rows, columns) if columns else rows)

    def add_biased(name: str, rows: int, columns: int) -> None:
        add(name, rows, columns)
        found[f"{name}.bias"] = dice.normal(0, 0.1, rows)

    def add_norm(name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = np.ones(WIDTH), np.zeros(WIDTH)

    add("token_embd", words, WIDTH)
    add("position_embd", CONTEXT, WIDTH)
    add("token_types", 2, WIDTH)
    add_norm("token_embd_norm")
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add_biased(f"blk.{layer}.{part}", WIDTH, WIDTH)
        add_norm(f"blk.{layer}.attn_output_norm")
        add_biased(f"blk.{layer}.ffn_up", FEED, WIDTH)
        add_biased(f"blk.{layer}.ffn_down", WIDTH, FEED)
        add_norm(f"blk.{layer}.layer_output_norm")
    add_biased("cls", WIDTH, WIDTH)
    add_biased("cls.output", 1, WIDTH)
    return found


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _key(name: str, kind: int) -> bytes:
    return _string(name) + struct.pack("<I", kind)


def _text(name: str, value: str) -> bytes:
    return _key(name, STRING) + _string(value)


def _number(name: str, value: int) -> bytes:
    return _key(name, UINT32) + struct.pack("<I", value)
