"""Whether two texts say nearly the same.

Likeness nominates: the words (rapidfuzz's token set ratio) and the meaning (cosine of the embeddings). What must not
differ decides: numbers, dates and times, negation, names, opposites, and who does what to whom. Both similarities are
blind to these: to an embedding "meet at 5" and "meet at 6" are nearly one text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from pg_steadytext.memory.domain.vocabulary import (
    DATES,
    DIRECTED,
    NEGATIONS,
    NUMBERS,
    OPPOSITES,
    STOPWORDS,
    stem,
)

LEXICAL = 85.0
"""Words alike, of 100: with a like meaning this is enough."""
COSINE = 0.80
CLOSE_COSINE = 0.90
"""Meanings so close need fewer words in common."""
LOOSE_LEXICAL = 60.0
SHARED = 0.55
"""Share of both texts' words that are in both, at least; for with a set ratio a part is like the whole."""
TYPO = 0.8
TYPO_LENGTH = 6
MOST_WORDS = 5000
"""Longer texts are not judged: a difference of one word is lost in them."""

_TOKEN = re.compile(
    r"\d{4}-\d{2}-\d{2}|\d{1,2}:\d{2}(?:\s?[ap]\.?m\b\.?)?|\d{1,2}\s?[ap]\.?m\b\.?"
    r"|\d+(?:[.,/]\d+)*(?:st|nd|rd|th)?%?|[^\W\d_]+(?:['’][^\W\d_]+)*|\d*[^\W_]+|[€$£¥%+]",
    re.IGNORECASE,
)
_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))?\s?(?:([ap])\.?m\.?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What of a text must agree: `words` are stems of what is left, in their order."""

    numbers: tuple[str, ...]
    dates: Counter[str]
    negated: tuple[str, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]
    directions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to suggest a pair: `because` is what likens it (`hash`, `lexical`, `embedding`), or what forbids it."""

    is_suggested: bool
    because: str
    lexical: float
    cosine: float | None

    def scores(self) -> Mapping[str, Any]:
        """Return what is stored with a pair."""
        return {
            "because": self.because, "lexical": round(self.lexical, 1),
            "cosine": None if self.cosine is None else round(self.cosine, 4),
        }  # fmt: skip


def judge(one: str, other: str, cosine: float | None, *, same_hash: bool = False) -> Verdict:
    """Judge a pair of texts; without a cosine, words alone decide."""
    left, right = _fold(one), _fold(other)
    if same_hash or left.casefold().split() == right.casefold().split():
        return Verdict(True, "hash", 100.0, cosine)
    a, b = facts(left, right), facts(right, left)
    lexical = fuzz.token_set_ratio(" ".join(a.words), " ".join(b.words)) if a.words and b.words else 0.0
    if max(len(a.words), len(b.words)) > MOST_WORDS:
        return Verdict(False, "length", lexical, cosine)
    if differs := difference(a, b):
        return Verdict(False, differs, lexical, cosine)
    shared = _shared(a.words, b.words)
    if shared < SHARED:
        return Verdict(False, "words", lexical, cosine)
    if cosine is None:
        return Verdict(lexical >= 95 and shared >= 0.8, "lexical", lexical, None)
    if lexical >= LEXICAL and cosine >= COSINE:
        return Verdict(True, "lexical", lexical, cosine)
    return Verdict(lexical >= LOOSE_LEXICAL and cosine >= CLOSE_COSINE, "embedding", lexical, cosine)


def difference(a: Facts, b: Facts) -> str | None:
    """Return what must agree and does not."""
    if a.numbers != b.numbers:
        return "numbers"
    if a.dates != b.dates:
        return "dates"
    if a.negated != b.negated:
        return "negation"
    if a.names != b.names:
        return "names"
    if _are_opposed(a.words, b.words):
        return "opposites"
    if all(_apart(a.directions, b.directions)):
        return "direction"
    if (a.directions or b.directions) and _is_turned(a.words, b.words):
        return "order"
    return "subject" if _is_replaced(a.words, b.words) else None


def facts(text: str, beside: str = "") -> Facts:
    """Read a text. ``beside`` is the other one, which may show that the word a sentence begins with is a name."""
    tokens = [found[0] for found in _TOKEN.finditer(text)]
    known = _names(text) | _names(beside)
    numbers: list[str] = []
    dates: Counter[str] = Counter()
    negated: list[str] = []
    names: list[str] = []
    words: list[str] = []
    pending = 0
    directions: list[str] = []
    for token in tokens:
        word = token.casefold().replace("’", "'")
        if time := _time(word):
            dates[time] += 1
        elif word[0].isdigit() or word in NUMBERS or word in "€$£¥%+":
            numbers.append(_number(word))
        elif word in DATES:
            dates[DATES[word]] += 1
        elif _negates(word):
            pending += 1
        elif word not in STOPWORDS:
            bare = stem(word)
            negated.extend([bare] * pending)
            pending = 0
            if word.removesuffix("'s") in known:
                names.append(word.removesuffix("'s"))
            words.append(bare)
        if word in DIRECTED:
            directions.append(word)
    negated.extend([""] * pending)
    return Facts(tuple(numbers), dates, tuple(negated), tuple(names), tuple(words), tuple(directions))


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _negates(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def _names(text: str) -> set[str]:
    """Words with a capital that no sentence begins with, and those written in capitals."""
    found: set[str] = set()
    for match in re.finditer(r"[^\W\d_]+", text):
        word, before = match[0], text[: match.start()].rstrip(" \t\"'“‘(*#-")
        begins = not before or before[-1] in ".!?:\n"
        folded = word.casefold()
        if word[0].isupper() and folded not in STOPWORDS and folded not in DATES and not begins:
            found.add(folded)
    return found


def _time(word: str) -> str | None:
    if not (":" in word or word.rstrip(".").endswith("m")) or not word[0].isdigit():
        return None
    found = _TIME.fullmatch(word)
    if found is None or not (found[2] or found[3]):
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    if found[3]:
        if not 1 <= hour <= 12:
            return word
        hour = hour % 12 + (12 if found[3].casefold() == "p" else 0)
    return f"{hour}:{minute:02}"


def _number(word: str) -> str:
    known = NUMBERS.get(word, word)
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", known)
    plain = re.sub(r"(?<=\d)(?:st|nd|rd|th)$", "", plain)
    return plain.lstrip("0") or "0"


def _apart(a: Sequence[str], b: Sequence[str]) -> tuple[list[str], list[str]]:
    left, right = Counter(a), Counter(b)
    return list((left - right).elements()), list((right - left).elements())


def _same_word(one: str, other: str) -> bool:
    """Whether one is the other with a slip of the pen."""
    if min(len(one), len(other)) < TYPO_LENGTH:
        return False
    return Levenshtein.normalized_similarity(one, other) >= TYPO


def _unmatched(a: Sequence[str], b: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of each that the other has not, slips of the pen aside."""
    left, right = _apart(a, b)
    for word in list(left):
        twin = next((other for other in right if _same_word(word, other)), None)
        if twin is not None:
            left.remove(word)
            right.remove(twin)
    return left, right


def _shared(a: Sequence[str], b: Sequence[str]) -> float:
    left, right = _unmatched(a, b)
    common = len(a) - len(left)
    every = common + len(left) + len(right)
    return common / every if every else 0.0


def _are_opposed(a: Sequence[str], b: Sequence[str]) -> bool:
    left, right = _apart(a, b)
    for one in left:
        for other in right:
            if other in OPPOSITES.get(one, ()):
                return True
            short, long = sorted((one, other), key=len)
            if any(long == prefix + short for prefix in ("un", "in", "im", "ir", "il", "dis", "non", "mis", "de")):
                return True
    return False


def _is_turned(a: Sequence[str], b: Sequence[str]) -> bool:
    common = set(a) & set(b)
    return [word for word in a if word in common] != [word for word in b if word in common]


def _is_replaced(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether each says of the same another thing: in one place stands one word here and another there."""
    left, right = _unmatched(a, b)
    if not left or not right:
        return False
    gone, come = set(left), set(right)
    return any(
        before_a == before_b and after_a == after_b
        for before_a, word_a, after_a in _windows(a)
        if word_a in gone
        for before_b, word_b, after_b in _windows(b)
        if word_b in come
    )


def _windows(words: Sequence[str]) -> list[tuple[str, str, str]]:
    padded = ["", *words, ""]
    return [(padded[at - 1], padded[at], padded[at + 1]) for at in range(1, len(padded) - 1)]
